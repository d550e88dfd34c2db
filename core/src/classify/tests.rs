//! What people see of the rule classifier.

use proptest::prelude::*;

use crate::classify::rules::Rules;
use crate::classify::{Classifier, Input};
use crate::request::{Sensitivity, TaskKind};
use crate::trace::Classification;

fn read(text: &str) -> Classification {
    Rules.classify(&Input::text(text))
}

#[test]
fn the_task_is_seen_in_both_languages() {
    use TaskKind::*;
    let table = [
        (
            Summarization,
            "Fasse diese E-Mail in drei Sätzen zusammen: Guten Tag, die Tür klemmt seit der Montage.",
            "Summarize this email in three sentences: Good morning, the door has been stuck since it was fitted.",
        ),
        (
            Translation,
            "Übersetze ins Englische: Der Auftrag wurde storniert.",
            "Translate into German: The order was cancelled.",
        ),
        (
            CodeGeneration,
            "Schreibe eine Python-Funktion, die eine Liste sortiert.",
            "Write a Python function that sorts a list.",
        ),
        (OpenQa, "Warum ist der Himmel blau?", "Why is the sky blue?"),
        (
            Rewrite,
            "Formuliere das bitte höflicher: Sie haben schon wieder nicht geliefert.",
            "Please make this more polite: You failed to deliver again.",
        ),
        (
            TextGeneration,
            "Schreib eine Stellenanzeige für einen Schlosser.",
            "Write a job ad for a locksmith.",
        ),
        (
            Analysis,
            "Wie viele Schrauben sind es, wenn 3 Kisten je 45 Schrauben enthalten?",
            "How many screws are there if 3 boxes hold 45 screws each?",
        ),
        (
            Brainstorming,
            "Gib mir zehn Ideen für unseren Betriebsausflug.",
            "Give me ten ideas for our company outing.",
        ),
        (Chat, "Hallo, wie geht es dir?", "Hello, how are you?"),
        (
            Extraction,
            "Extrahiere alle Namen aus dem Text: Frau Okafor traf Herrn Witt.",
            "Extract all names from the text: Ms Okafor met Mr Witt.",
        ),
    ];
    for (task, german, english) in table {
        assert_eq!((read(german).task, read(english).task), (task, task), "{english}");
        assert_eq!((read(german).language.as_str(), read(english).language.as_str()), ("de", "en"));
    }
}

#[test]
fn a_hard_question_is_as_hard_in_german() {
    let pairs = [
        (
            "Beweise Schritt für Schritt, dass die Wurzel aus 2 irrational ist.",
            "Prove step by step that the square root of 2 is irrational.",
        ),
        (
            "Vergleiche ausführlich zwei Architekturen für ein verteiltes System und begründe die Zielkonflikte.",
            "Compare in depth two architectures for a distributed system and justify the trade-offs.",
        ),
        (
            "Beurteile kritisch, ob die Haftungsklausel in diesem Vertrag mit der Verordnung vereinbar ist.",
            "Assess critically whether the liability clause in this contract complies with the regulation.",
        ),
    ];
    for (german, english) in pairs {
        let (german, english) = (read(german).complexity, read(english).complexity);
        assert!(german > english - 0.12, "{german} against {english}");
        assert!(german > read("Hallo, danke dir!").complexity + 0.15);
    }
}

#[test]
fn clear_cases_are_held_and_everyday_questions_are_not() {
    use Sensitivity::*;
    for text in [
        "Schreibe eine Abmahnung für unseren Mitarbeiter wegen Verspätung.",
        "Gehaltsliste der Abteilung Einkauf bitte auswerten.",
        "Write a dismissal letter for our employee in marketing.",
        "We plan to acquire a competitor, nobody must know. Draft the letter of intent.",
    ] {
        assert_eq!(read(text).sensitivity, Restricted, "{text}");
    }
    for text in [
        "Unsere Kalkulation für das Ventil ergibt Herstellkosten von 48 €. Wo sparen wir?",
        "Make a list of our customers with contacts and revenue.",
    ] {
        assert_eq!(read(text).sensitivity, Confidential, "{text}");
    }
    for text in [
        "Wie funktioniert die Photosynthese?",
        "What is the capital of France?",
        "What is the average salary of a nurse?",
        "Was ist eine Abmahnung?",
        "Plane ein Treffen der Abteilung Einkauf mit Tagesordnung.",
    ] {
        assert!(read(text).sensitivity <= Internal, "{text}");
    }
}

#[test]
fn mixed_german_is_german_and_noise_is_no_language() {
    assert_eq!(read("kannst du das mal summarizen").language, "de");
    assert_eq!(read("Wie spät ist es?").language, "de");
    assert_eq!(read("Où est la gare ?").language, "fr");
    assert_eq!(read("Где находится вокзал?").language, "ru");
    for noise in ["", "4711", "###", "\u{7}\u{0}"] {
        let found = read(noise);
        assert_eq!((found.language.as_str(), found.task), ("und", TaskKind::Other), "{noise:?}");
    }
}

#[test]
fn an_order_behind_a_long_text_is_still_read() {
    let text =
        format!("{}\n\nBitte übersetze das ins Englische.", "Die Halle ist leer. ".repeat(60_000));
    assert_eq!(read(&text).task, TaskKind::Translation);
}

#[test]
fn a_megabyte_of_anything_is_answered() {
    for unit in ["a", "ß", "fasse ", "aGVsbG8gd29ybGQ", "\u{202e}", "İ", "\0"] {
        let found = read(&unit.repeat(1_000_000 / unit.len()));
        assert!((0.0..=1.0).contains(&found.complexity));
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,300}", long in "[ -~äöüßİ\\n„“:?]{0,40}") {
        for text in [text, long.repeat(400)] {
            let found = read(&text);
            prop_assert!((0.0..=1.0).contains(&found.task_confidence));
            prop_assert!((0.0..=1.0).contains(&found.complexity));
        }
    }
}
