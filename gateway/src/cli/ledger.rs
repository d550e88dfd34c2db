//! `stellwerk ledger export`: pages through the ledger and writes what it finds, so that the
//! export of ten years needs the memory of one page.

use std::io::{self, BufWriter};

use stellwerk_core::config::Config;
use stellwerk_core::ledger::export::{Account, Exporter, Format, moment};
use stellwerk_core::org::Directory;
use stellwerk_core::store::LedgerQuery;

use crate::cli::args::LedgerCommand;
use crate::cli::setup::{Context, Desk};
use crate::cli::{CommandError, output};

/// Rows read at once: large enough that the query costs little for each row, small enough that a
/// page is a few megabytes.
const PAGE: usize = 2_000;

pub(super) async fn run(context: &Context, command: LedgerCommand) -> Result<(), CommandError> {
    let LedgerCommand::Export { format, from, to } = command;
    let desk = Desk::open(context).await?;
    let done = match query(&desk.config, from.as_deref(), to.as_deref()) {
        Ok(query) => export(&desk, format, query).await,
        Err(error) => Err(error),
    };
    desk.close(done).await
}

fn query(
    config: &Config,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<LedgerQuery, CommandError> {
    // Whoever writes a day means the whole of it, also as the last one.
    let whole_day = to.and_then(|to| to.trim().parse::<jiff::civil::Date>().ok());
    let day_after = whole_day.and_then(|day| day.tomorrow().ok()).map(|day| day.to_string());
    let to = day_after.as_deref().or(to);
    let read = |name: &str, written: Option<&str>| {
        written.map(|written| moment(written, &config.money.time_zone)).transpose().map_err(
            |error| {
                let written = written.unwrap_or_default();
                CommandError::refused(
                    format!("{name}: {error}."),
                    format!(
                        "{name}: `{written}` ist kein Zeitpunkt; etwa 2026-07-01 oder 2026-07-01T08:00:00Z."
                    ),
                )
            },
        )
    };
    let query = LedgerQuery {
        from: read("--from", from)?,
        to: read("--to", to)?,
        limit: PAGE,
        ..LedgerQuery::default()
    };
    match (query.from, query.to) {
        (Some(from), Some(to)) if to < from => {
            Err(CommandError::refused("--to lies before --from.", "--to liegt vor --from."))
        }
        _ => Ok(query),
    }
}

async fn export(desk: &Desk, format: Format, mut query: LedgerQuery) -> Result<(), CommandError> {
    let account = account(&desk.config, &desk.directory);
    let progress = output::counter("{spinner} {human_pos} · {per_sec} · {elapsed}");
    let mut exporter =
        Exporter::new(format, account, BufWriter::with_capacity(1 << 16, io::stdout()))?;
    loop {
        let page = desk.store.ledger(query.clone()).await?;
        let Some(last) = page.last() else { break };
        query.after = last.position;
        let is_last = page.len() < query.limit;
        for row in &page {
            exporter.write(&row.entry)?;
        }
        progress.inc(page.len() as u64);
        if is_last {
            break;
        }
    }
    exporter.flush()?;
    progress.finish_and_clear();
    Ok(())
}

/// The company, or a word for it while no organisation has been imported.
fn account(config: &Config, directory: &Directory) -> Account {
    let (id, name) = match &directory.company {
        Some(company) => (company.id.clone(), company.name.clone()),
        None => ("company".to_owned(), "Company".to_owned()),
    };
    Account { id, name, time_zone: config.money.time_zone.clone() }
}
