//! What a routing decision costs: the classifier's rules, and the choice among three rungs and
//! among fifty models.

use std::path::Path;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use stellwerk_core::caller::{Caller, Channel};
use stellwerk_core::classify::rules::Rules;
use stellwerk_core::classify::{Classifier, Input};
use stellwerk_core::config::{Config, check};
use stellwerk_core::request::{ChatRequest, Target};
use stellwerk_core::route::health::HealthBook;
use stellwerk_core::route::{Needs, Question, choose};

const QUESTION: &str = "Bitte erkläre mir in einfachen Worten, wie ein elektronisches Stellwerk \
    die Fahrstrassen der Züge sichert, und was geschieht, wenn ein Achszähler ausfällt.";

/// So many models on a cascade.
fn configuration(models: usize) -> Config {
    let mut text = "[[provider]]\nid = \"p\"\nkind = \"simulated\"\nzone = \"eu\"\n".to_owned();
    let names: Vec<String> = (0..models).map(|number| format!("m{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let tier = ["economy", "standard", "premium"][number % 3];
        text.push_str(&format!(
            "[[model]]\nid = \"{name}\"\nprovider = \"p\"\nname = \"{name}\"\ntier = \"{tier}\"\n\
             input_per_million = \"{}\"\noutput_per_million = \"{}\"\nprice_currency = \"EUR\"\n",
            number + 1,
            2 * number + 1,
        ));
    }
    text.push_str(&format!(
        "[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = {names:?}\n"
    ));
    check::parse(&text, Path::new("."), &|_| None).expect("the configuration is right")
}

fn classifying(criterion: &mut Criterion) {
    let rules = Rules;
    criterion.bench_function("classify by rules", |bencher| {
        bencher.iter(|| rules.classify(&Input::text(std::hint::black_box(QUESTION))));
    });
}

fn choosing(criterion: &mut Criterion) {
    let classification = Rules.classify(&Input::text(QUESTION));
    let caller = Caller::company(Channel::Api);
    let target = Target::from_model_field("auto");
    for models in [3, 50] {
        let (config, health) = (configuration(models), HealthBook::default());
        criterion.bench_function(&format!("choose among {models} models"), |bencher| {
            bencher.iter(|| {
                let question = Question {
                    caller: &caller,
                    use_case: None,
                    target: &target,
                    needs: Needs::of(std::hint::black_box(&ChatRequest::ask(QUESTION))),
                    classification: &classification,
                    level: classification.sensitivity,
                    findings: None,
                    fallback: &[],
                    pressure: None,
                    input_tokens: &|_| 40,
                    input_bytes: QUESTION.len() as u64,
                    now: Instant::now(),
                };
                choose(&config, &health, &question).expect("someone may answer")
            });
        });
    }
}

criterion_group!(benches, classifying, choosing);
criterion_main!(benches);
