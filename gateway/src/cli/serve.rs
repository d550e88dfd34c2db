//! `stellwerk serve`: decides which configuration the server starts with, then hands over.
//!
//! With `--demo` in an empty folder the sample company is set up first, see [`crate::demo`].
//! The address is taken before the store is touched, so that a second start beside a running
//! server changes nothing there.

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use stellwerk_core::config::Config;

use crate::cli::args::ServeArgs;
use crate::cli::setup::{self, Context};
use crate::cli::{CommandError, output};
use crate::demo::{self, Start};
use crate::wiring::Wired;
use crate::{metrics, server};

pub(super) fn run(context: &Context, args: &ServeArgs) -> Result<(), CommandError> {
    metrics::start_log();
    let context = match args.demo {
        true => demo_context(context)?,
        false => context.clone(),
    };
    let config = setup::config(&context)?;
    if args.demo {
        demo::refuse_vendors(&config)?;
    }
    if config.providers.is_empty() {
        return Err(CommandError::Refused(setup::nobody_to_ask()));
    }
    for finding in &config.warnings {
        tracing::warn!(key = finding.key, line = finding.line, "{}", finding.message);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()?;
    runtime.block_on(serve(&context, args, config))
}

/// One core is left to the database's writer. On two cores a single worker also spares the
/// switches between workers: measured there, calls came sooner and none fewer.
fn worker_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}

/// The demo uses the configuration that is there, or writes its own.
fn demo_context(context: &Context) -> Result<Context, CommandError> {
    let start = demo::start(setup::config_path(context), Path::new(""))?;
    if let Start::Written(path) = &start {
        let path = path.display();
        output::say(&context.words(
            format!("Wrote {path} with simulated models."),
            format!("{path} mit simulierten Modellen geschrieben."),
        ));
    }
    let (Start::Written(path) | Start::Found(path)) = start;
    Ok(Context { config: Some(path), ..context.clone() })
}

async fn serve(context: &Context, args: &ServeArgs, config: Config) -> Result<(), CommandError> {
    let wanted = args.listen.unwrap_or(config.server.listen);
    let listener =
        server::listen(wanted).await.map_err(|error| CommandError::Refused(error.words()))?;
    let address = listener.local_addr()?;
    let wired = Wired::start(config).await.map_err(setup::start_error)?;
    let welcome = match args.demo {
        true => {
            let config = wired.engine.config();
            demo::welcome(&wired.store, &config, address, context.locale, Timestamp::now()).await?
        }
        false => context.words(
            format!("Stellwerk listens on http://{address}\n"),
            format!("Stellwerk lauscht auf http://{address}\n"),
        ),
    };
    // A server whose standard output is closed serves all the same.
    let mut out = output::stdout();
    let _ = out.write_all(welcome.as_bytes()).and_then(|()| out.flush());
    drop(out);
    Ok(server::serve(listener, wired, server::stop_signal()).await?)
}
