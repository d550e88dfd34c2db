//! Each set's rows become what they say, and what is held out stays out.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().expect("a folder for the test"))
    }

    fn packed(self, name: &str, lines: &str) -> Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let mut gzip = GzEncoder::new(File::create(path).expect("made"), Compression::fast());
        gzip.write_all(lines.as_bytes()).expect("written");
        gzip.finish().expect("written");
        self
    }

    fn plain(self, name: &str, lines: &str) -> Self {
        std::fs::write(self.0.path().join(name), lines).expect("written");
        self
    }

    fn load(&self) -> Result<Corpus, DataError> {
        Corpus::load(self.0.path(), None)
    }
}

const TASK: &str = "task_type/train.jsonl.gz";

#[test]
fn each_set_labels_only_what_it_knows() {
    let corpus = Folder::new()
        .packed(TASK, r#"{"text":"Hi","label":"chat","lang":"en","source":"clinc150_small_talk"}"#)
        .packed("injection/train.jsonl.gz", r#"{"text":"obey","label":1,"lang":"en","source":"x"}"#)
        .packed("langid/train.jsonl.gz", r#"{"text":"cześć","label":"pl","source":"tatoeba"}"#)
        .load()
        .expect("readable");
    let [task, attack, polish] = &corpus.train[..] else { panic!("three rows") };
    assert_eq!((task.task, task.injection), (Some(TaskKind::Chat), Some(false)));
    assert_eq!((attack.task, attack.injection), (None, Some(true)));
    assert_eq!((polish.language.as_deref(), polish.sensitivity), (Some("pl"), None));
    assert_eq!(corpus.files.len(), 3);
}

#[test]
fn complexity_is_the_share_of_cheap_models_that_fail() {
    let row = r#"{"text":"2+2?","source":"mmlu_pro","group":"math","lang":"en","scores":
        {"Meta-Llama-3_1-8B-Instruct":0,"Mixtral-8x7B-Instruct-v0.1":1,"gemini-1.5-pro-002":0}}"#
        .replace('\n', "");
    let corpus = Folder::new().packed("complexity/train.jsonl.gz", &row).load().expect("readable");
    let example = &corpus.train[0];
    assert_eq!(example.complexity, Some(0.5));
    assert!(example.weight < 1.0, "no model would have helped");
    assert_eq!(example.source, "mmlu_pro:math");
}

#[test]
fn what_stands_in_the_steering_set_is_never_learnt() {
    let long = "one two three four five six seven eight nine ten eleven twelve";
    let row = |text: &str| format!("{{\"text\":\"{text}\",\"label\":\"chat\",\"lang\":\"en\"}}\n");
    let corpus = Folder::new()
        .packed(
            TASK,
            &[row(&format!("Well, {}!", long.to_uppercase())), row("hello, you"), row("mine")]
                .concat(),
        )
        .packed("task_type/dev_real.jsonl.gz", &[row(long), row("Hello you.")].concat())
        .load()
        .expect("readable");
    assert_eq!(corpus.train.len(), 1);
    assert_eq!(corpus.train[0].text, "mine");
    let fact = corpus.files.iter().find(|file| file.path == TASK).expect("listed");
    assert_eq!((fact.rows, fact.dropped), (1, 2));
}

#[test]
fn our_own_lines_carry_all_labels_and_what_was_said_before() {
    let row = r#"{"text":"und jetzt kürzer","lang":"de","task":"rewrite","domain":"sales","sensitivity":"internal","complexity":0.2,"injection":0,"system":"Du hilfst.","turns":[{"role":"user","text":"erste"},{"role":"assistant","text":"zweite"}]}"#;
    let folder = Folder::new().plain("office.jsonl", row);
    let corpus = Corpus::load(Path::new("/nowhere"), Some(folder.0.path())).expect("readable");
    let example = &corpus.train[0];
    assert_eq!(example.source, "office");
    assert_eq!(example.domain, Some(Domain::Sales));
    assert_eq!(example.context, "zweite\nerste\nDu hilfst.");
    assert_eq!(example.input().context(), example.context);
}

#[test]
fn names_count_code_points_and_say_which_kinds_were_looked_for() {
    let row = r#"{"text":"Grüße, Öz","lang":"de","spans":[{"start":7,"end":9,"type":"PERSON","value":"Öz"},{"start":0,"end":2,"type":"TITLE"}],"source":"authored_train"}"#;
    let corpus = Folder::new().packed("pii/pii_authored.jsonl.gz", row).load().expect("readable");
    let example = &corpus.train[0];
    assert_eq!(example.spans, [Span { kind: Entity::Person, start: 7, end: 9 }]);
    assert_eq!(example.span_kinds, [Entity::Person, Entity::Address]);
    assert_eq!(example.source, "pii_authored");
}

#[test]
fn a_wrong_line_is_named_and_not_quoted() {
    let lines = "{\"text\":\"a\",\"label\":\"chat\"}\n{\"text\":\"geheim\",\"label\":\"gossip\"}\n";
    let error = Folder::new().packed(TASK, lines).load().expect_err("a wrong label");
    let message = error.to_string();
    assert!(message.contains("line 2"), "{message}");
    assert!(!message.contains("geheim"), "{message}");
    let broken = Folder::new().packed(TASK, "{\"text\": geheim").load().expect_err("no JSON");
    assert!(!broken.to_string().contains("geheim"), "{broken}");
}

#[test]
fn an_empty_folder_says_what_was_looked_for() {
    let error = Folder::new().load().expect_err("nothing there");
    assert!(error.to_string().contains("task_type"), "{error}");
}

#[test]
fn pairs_come_without_the_header() {
    let corpus = Folder::new()
        .packed("parallel/tatoeba_en_de.tsv.gz", "1\t2\nGo.\tGeh.\n")
        .packed(TASK, r#"{"text":"Hi","label":"chat"}"#)
        .load()
        .expect("readable");
    assert_eq!(corpus.pairs, [("Go.".to_owned(), "Geh.".to_owned())]);
}
