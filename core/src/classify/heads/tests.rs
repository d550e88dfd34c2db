//! Numbers in, answers out.

use proptest::prelude::*;

use super::*;

/// Logits with some classes raised.
fn raised(raised: &[(Head, usize, f32)]) -> Logits {
    let mut logits = Logits([0.0; CLASSES]);
    for (head, class, value) in raised {
        logits.0[head.range().start + class] = *value;
    }
    logits
}

fn answer(logits: &Logits) -> Classification {
    let calibration = Calibration::default();
    decode(&Shares::of(logits, &calibration), &calibration, "fast")
}

#[test]
fn the_columns_cover_all_classes_once() {
    let mut next = 0;
    for head in Head::ALL {
        assert_eq!(head.range().start, next);
        assert_eq!(head.range().len(), head.labels().len());
        next = head.range().end;
    }
    assert_eq!(next, CLASSES);
}

#[test]
fn a_clear_answer_is_sure() {
    let logits =
        raised(&[(Head::Task, 7, 6.0), (Head::Sensitivity, 0, 6.0), (Head::Language, 1, 6.0)]);
    let found = answer(&logits);
    assert_eq!(found.task, TaskKind::Translation);
    assert_eq!((found.sensitivity, found.language.as_str()), (Sensitivity::Public, "de"));
    assert!(!found.unsure && found.task_confidence > 0.9);
}

#[test]
fn no_evidence_is_unsure() {
    let found = answer(&raised(&[]));
    assert!(found.unsure);
    assert_eq!(found.language, "und");
}

#[test]
fn of_two_close_levels_the_higher_is_taken_and_of_two_distant_ones_not() {
    let close = raised(&[(Head::Sensitivity, 1, 3.0), (Head::Sensitivity, 2, 2.9)]);
    let level = |logits| answer(logits).sensitivity;
    assert_eq!(level(&close), Sensitivity::Confidential);
    let apart = raised(&[(Head::Sensitivity, 1, 3.0), (Head::Sensitivity, 2, 2.0)]);
    assert_eq!(level(&apart), Sensitivity::Internal);
}

#[test]
fn a_broken_model_gives_no_numbers() {
    assert!(Logits::from_slice(&[0.0; CLASSES - 1]).is_none());
    assert!(Logits::from_slice(&[f32::NAN; CLASSES]).is_none());
    assert!(Logits::from_slice(&[0.5; CLASSES]).is_some());
}

#[test]
fn a_calibration_that_cannot_be_calculated_with_is_told() {
    assert!(Calibration::default().is_sound());
    assert!(!Calibration { task: 0.0, ..Calibration::default() }.is_sound());
    let nan = Platt { scale: f32::NAN, shift: 0.0 };
    assert!(!Calibration { injection: nan, ..Calibration::default() }.is_sound());
}

proptest! {
    #[test]
    fn every_number_gives_probabilities(values in prop::collection::vec(-80.0_f32..80.0, CLASSES)) {
        let logits = Logits::from_slice(&values).expect("finite");
        let calibration = Calibration { task: 1.7, ..Calibration::default() };
        for head in Head::ALL {
            let found = probabilities(*head, &logits, &calibration);
            prop_assert!(found.iter().all(|p| (0.0..=1.0).contains(p)));
            let sum: f32 = found.iter().sum();
            prop_assert!(!head.is_choice() || (sum - 1.0).abs() < 1e-4);
        }
        let shares = Shares::of(&logits, &calibration);
        let found = decode(&shares, &calibration, "deep");
        prop_assert!((0.0..=1.0).contains(&found.task_confidence));
        let plain = Calibration::default();
        let read = logits.calibrated(&calibration);
        prop_assert!((Shares::of(&read, &plain).injection() - shares.injection()).abs() < 1e-6);
        let both = Both { shares: [0.4; 6], calibration: plain };
        let again = Shares::of(&both.join(&read, &read), &plain);
        prop_assert!((again.injection() - shares.injection()).abs() < 1e-5);
    }
}
