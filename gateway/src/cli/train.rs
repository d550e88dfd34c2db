//! `stellwerk train`: a classifier of one's own, or the recipe of the one that ships.
//!
//! Prints what was reached on lines that were held out, and what to do next. Progress goes to
//! standard error. Knows nothing of how anything is learnt; that is `classify::train`.

use std::path::Path;

use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::json;
use stellwerk_core::classify::deep::{self, DeepFiles};
use stellwerk_core::classify::train::data::{Corpus, DataError};
use stellwerk_core::classify::train::deep as deep_stage;
use stellwerk_core::classify::train::manifest::Score;
use stellwerk_core::classify::train::own::tuned::TuneSettings;
use stellwerk_core::classify::train::own::{self, OwnScores, OwnSettings, TrainError};
use stellwerk_core::classify::train::recipe::{self, Progress, RecipeError, Settings};
use stellwerk_core::classify::trained;

use crate::cli::args::TrainArgs;
use crate::cli::setup::Context;
use crate::cli::{CommandError, output};
use crate::wiring::chain;

pub(super) fn run(context: &Context, args: &TrainArgs) -> Result<(), CommandError> {
    match (&args.data, &args.recipe) {
        (Some(data), _) => one_s_own(context, args, data),
        (None, Some(sets)) => shipped(context, args, sets),
        (None, None) => Err(CommandError::refused(
            "Say what to learn from: --data FILE or --recipe DIR.",
            "Woraus soll gelernt werden? --data DATEI oder --recipe ORDNER.",
        )),
    }
}

// ---- a classifier of one's own --------------------------------------------------------------

fn one_s_own(context: &Context, args: &TrainArgs, file: &Path) -> Result<(), CommandError> {
    let data = own::read(file).map_err(|error| wrong(&error))?;
    let bar = Bar::new();
    let settings = OwnSettings::default();
    let mut show = |progress: Progress<'_>| bar.show(&progress);
    let (out, now) = (&args.out, Timestamp::now());
    let scores = match deep_files(args)? {
        Some(files) => {
            let tuning = TuneSettings::default();
            own::tuned::train_tuned(&data, &settings, &tuning, &files, out, now, &mut show)
        }
        None => {
            let encoder = trained::shipped("auto").ok().and_then(|trained| trained.vectors());
            if encoder.is_none() {
                output::say(&context.words(
                    "The encoder cannot be used, so words alone are learnt from; `doctor` says more.",
                    "Der Encoder ist nicht verwendbar, gelernt wird nur aus Wörtern; `doctor` sagt mehr.",
                ));
            }
            own::train(&data, &settings, encoder.as_ref(), out, now, &mut show)
        }
    };
    bar.end();
    let scores = scores.map_err(|error| wrong(&error))?;
    if args.json {
        return output::json(&figures(&scores));
    }
    output::line(&told(context, &scores, &args.out))
}

/// The encoder to be tuned, if that is wanted.
fn deep_files(args: &TrainArgs) -> Result<Option<DeepFiles>, CommandError> {
    match (args.tune, deep::shipped()) {
        (false, _) => Ok(None),
        (true, Some(files)) => Ok(Some(files)),
        (true, None) => Err(CommandError::refused(
            "This program was built without an encoder, so there is nothing to tune.",
            "Dieses Programm wurde ohne Encoder gebaut; es gibt nichts zu verfeinern.",
        )),
    }
}

/// What a person can mend is a refusal, and says how; a full disk is not.
fn wrong(error: &TrainError) -> CommandError {
    let de = match error {
        TrainError::Read { path, .. } => {
            format!("{} ist nicht lesbar: {}", path.display(), chain(error))
        }
        TrainError::Lines { count, first } => {
            format!("{count} Zeilen sind nicht verwendbar; die ersten: {}", first.join("; "))
        }
        TrainError::Classes(n) => {
            format!("Es braucht mindestens zwei verschiedene \"label\"; die Datei hat {n}.")
        }
        TrainError::TooManyClasses(n) => {
            format!("{n} verschiedene \"label\" sind zu viele; ist \"label\" das richtige Feld?")
        }
        TrainError::TooFew(n) => format!(
            "{n} Zeilen sind zu wenige; jede Klasse braucht mindestens fünf, besser fünfzig."
        ),
        TrainError::Encoder(_) => {
            format!("Der Encoder konnte nicht verfeinert werden: {}", chain(error))
        }
        TrainError::Folder(_) | TrainError::Weights(_) => {
            format!("Der Klassifikator konnte nicht geschrieben werden: {}", chain(error))
        }
    };
    CommandError::refused(chain(error), de)
}

fn figures(scores: &OwnScores) -> serde_json::Value {
    json!({
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "ece": scores.ece,
        "lines": scores.lines,
        "held_out": scores.held_out,
        "threshold": scores.threshold,
        "above_threshold": { "share": scores.above.0, "accuracy": scores.above.1 },
        "mistakes": scores
            .confusion
            .worst(20)
            .into_iter()
            .map(|(truth, guess, count)| json!({ "label": truth, "taken_for": guess, "count": count }))
            .collect::<Vec<_>>(),
        "unscored": scores.unscored,
    })
}

/// Beyond so many classes a table of all against all helps nobody; the worst mistakes do.
const WIDEST_TABLE: usize = 20;

fn told(context: &Context, scores: &OwnScores, folder: &Path) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let labels = scores.confusion.labels().len();
    let mut text = context.words(
        format!(
            "On {} of {} lines that were held out, in {labels} classes:\n  accuracy   {}\n  \
             macro-F1   {}\n  threshold  {:.2}: {} of the lines are above it, {} of those right\n",
            scores.held_out,
            scores.lines,
            percent(scores.accuracy),
            percent(scores.macro_f1),
            scores.threshold,
            percent(scores.above.0),
            percent(scores.above.1),
        ),
        format!(
            "Auf {} von {} Zeilen, die zurückgehalten waren, in {labels} Klassen:\n  Trefferquote  {}\n  \
             Makro-F1      {}\n  Schwelle      {:.2}: {} der Zeilen liegen darüber, {} davon richtig\n",
            scores.held_out,
            scores.lines,
            percent(scores.accuracy),
            percent(scores.macro_f1),
            scores.threshold,
            percent(scores.above.0),
            percent(scores.above.1),
        ),
    );
    text.push('\n');
    text.push_str(&mistakes(context, scores, labels));
    if !scores.unscored.is_empty() {
        let names = scores.unscored.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        text.push_str(&context.words(
            format!("Fewer than five lines, so learnt but not scored: {names}\n"),
            format!("Weniger als fünf Zeilen, darum gelernt, aber nicht bewertet: {names}\n"),
        ));
    }
    let folder = folder.display();
    text.push_str(&context.words(
        format!(
            "\nTry it:  stellwerk classify --classifier {folder} \"…\"\n\
             Use it:  [classify] custom = {{ NAME = \"{folder}\" }}, and custom = {{ NAME = [\"CLASS\"] }} in a [[policy.rule]]"
        ),
        format!(
            "\nProbieren:  stellwerk classify --classifier {folder} \"…\"\n\
             Verwenden:  [classify] custom = {{ NAME = \"{folder}\" }}, und custom = {{ NAME = [\"KLASSE\"] }} in einer [[policy.rule]]"
        ),
    ));
    text
}

fn mistakes(context: &Context, scores: &OwnScores, labels: usize) -> String {
    if labels <= WIDEST_TABLE {
        let title = context.words(
            "Rows: what it is. Columns: what it was taken for.",
            "Zeilen: was es ist. Spalten: wofür es gehalten wurde.",
        );
        return format!("{title}\n{}\n", scores.confusion);
    }
    let worst = scores.confusion.worst(10);
    if worst.is_empty() {
        return String::new();
    }
    let title = context.words("Most often mistaken:", "Am häufigsten verwechselt:");
    let line =
        |(truth, guess, count): (&str, &str, u32)| format!("  {count:>3}  {truth} → {guess}\n");
    format!("{title}\n{}", worst.into_iter().map(line).collect::<String>())
}

// ---- the one that ships ---------------------------------------------------------------------

fn shipped(context: &Context, args: &TrainArgs, sets: &Path) -> Result<(), CommandError> {
    let corpus =
        Corpus::load(sets, args.authored.as_deref()).map_err(|error| unreadable(&error))?;
    let bar = Bar::new();
    let settings = Settings::default();
    let made =
        recipe::fast_stage(&corpus, &settings, &args.out, Timestamp::now(), &mut |progress| {
            bar.show(&progress);
        });
    bar.end();
    let made = made.map_err(|error: RecipeError| CommandError::Internal(error.into()))?;
    if made.was_there {
        output::say(&context.words(
            "The fast stage is there already, from the same data and settings.",
            "Die schnelle Stufe liegt schon vor, aus denselben Daten und Einstellungen.",
        ));
    }
    let mut scores = made.scores;
    if let Some(base) = &args.base {
        scores.extend(encoder(args, base, &corpus)?);
    }
    if args.json {
        return output::json(&scores);
    }
    let mut table =
        output::Table::new(["on", "head", "lang", "figure", "value", "rows"]).right([4, 5]);
    for score in &scores {
        table.row([
            score.on.clone(),
            score.head.clone(),
            score.lang.clone(),
            score.figure.clone(),
            format!("{:.3}", score.value),
            score.rows.to_string(),
        ]);
    }
    output::line(table.to_string().trim_end())
}

/// The deep stage. Each of its steps leaves a file in the work folder and is not done again.
fn encoder(args: &TrainArgs, base: &Path, corpus: &Corpus) -> Result<Vec<Score>, CommandError> {
    let work = match &args.work {
        Some(work) => work.clone(),
        None => args.out.with_extension("work"),
    };
    std::fs::create_dir_all(&work).map_err(|error| {
        let what = format!("{}: {error}", work.display());
        CommandError::refused(
            format!("The work folder cannot be made: {what}"),
            format!("Der Arbeitsordner lässt sich nicht anlegen: {what}"),
        )
    })?;
    let plan = deep_stage::Plan::default();
    let folders = deep_stage::Folders { base: base.to_owned(), work };
    let began = std::time::Instant::now();
    let mut say =
        |line: String| output::say(&format!("{:>6} s  {line}", began.elapsed().as_secs()));
    let internal = |error: deep_stage::DeepError| CommandError::Internal(error.into());
    let pieces = deep_stage::vocabulary(corpus, &plan, &folders, &mut say).map_err(internal)?;
    let net =
        deep_stage::distilled(corpus, &pieces, &plan, &folders, &mut say).map_err(internal)?;
    let net =
        deep_stage::tuned(net, corpus, &pieces, &plan, &folders, &mut say).map_err(internal)?;
    deep_stage::ship::ship(&net, &pieces, corpus, &plan, &args.out, Timestamp::now())
        .map_err(|error| CommandError::Internal(error.into()))
}

fn unreadable(error: &DataError) -> CommandError {
    CommandError::refused(chain(error), format!("Die Daten sind nicht lesbar: {}", chain(error)))
}

// ---- progress -------------------------------------------------------------------------------

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        Bar(output::counter("{msg} {wide_bar} {pos}/{len} · {eta}"))
    }

    fn show(&self, progress: &Progress<'_>) {
        self.0.set_length(progress.of as u64);
        self.0.set_position(progress.done as u64);
        self.0.set_message(progress.what.to_owned());
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::request::Locale;

    fn context() -> Context {
        Context { config: None, locale: Locale::En }
    }

    fn args(data: &Path, out: &Path) -> TrainArgs {
        TrainArgs {
            data: Some(data.to_owned()),
            recipe: None,
            authored: None,
            base: None,
            work: None,
            out: out.to_owned(),
            tune: false,
            json: false,
        }
    }

    #[test]
    fn wrong_lines_are_refused_with_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tickets.jsonl");
        std::fs::write(&file, "{\"text\":\"a\"}\n").unwrap();
        let error = run(&context(), &args(&file, &folder.path().join("out"))).unwrap_err();
        let CommandError::Refused(words) = error else { panic!("{error:?}") };
        assert!(words.in_locale(Locale::En).contains("line 1"));
        assert!(words.in_locale(Locale::De).contains("1 Zeilen"));
    }

    #[test]
    fn what_was_reached_is_told_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tickets.jsonl");
        let line = |n: usize| {
            let (label, text) = [("refund", "money back"), ("delivery", "where is it")][n % 2];
            format!("{{\"text\":\"{text} {n}\",\"label\":\"{label}\"}}\n")
        };
        std::fs::write(&file, (0..30).map(line).collect::<String>()).unwrap();
        let data = own::read(&file).unwrap();
        let out = folder.path().join("out");
        let scores = own::train(
            &data,
            &OwnSettings::default(),
            None,
            &out,
            Timestamp::UNIX_EPOCH,
            &mut |_| {},
        )
        .unwrap();
        let told = told(&context(), &scores, &out);
        for part in ["accuracy", "macro-F1", "threshold", "1 delivery", "--classifier"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
