//! `offsite-target`: the target core, daemon and command line in one program.
//!
//! **Absent:** what the core does (`offsite-target-core`); this program composes it, starts it and
//! talks to it.

mod cli;
mod commands;
mod context;
mod exit;
mod identity;
mod place;
mod secrets;
mod settings;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use offsite_terminal::{Exit, Failure, Output};

use crate::cli::{Cli, Command};
use crate::context::Context;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => start(cli).into(),
        Err(error) => misused(&error).into(),
    }
}

fn start(cli: Cli) -> Exit {
    // What follows a word of a later release is not parsed, and scripts still want their document.
    let is_later = matches!(cli.command, Command::Later(_));
    let out = Output { json: cli.common.json || (is_later && wants_json()) };
    let token = match cli.common.token_file.map(|path| secrets::first_line(&path, "token")) {
        Some(Ok(token)) => Some(token),
        Some(Err(failure)) => return out.failure(&failure),
        None => None,
    };
    let context = Context { data: cli.common.data.unwrap_or_else(place::usual), out, token };
    let is_daemon = matches!(cli.command, Command::Serve);
    let mut builder = if is_daemon {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let ended = match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&context, cli.command, is_daemon)),
        Err(error) => Err(Failure::failed(format!("cannot start the runtime: {error}"))),
    };
    ended.unwrap_or_else(|failure| out.failure(&failure))
}

/// Runs the command; a person's Ctrl-C ends it with its own exit code. The daemon hears signals by
/// itself.
async fn run(context: &Context, command: Command, is_daemon: bool) -> Result<Exit, Failure> {
    if is_daemon {
        return commands::run(context, command).await;
    }
    tokio::select! {
        biased;
        ended = commands::run(context, command) => ended,
        _ = offsite_daemon::shutdown::interrupted() => Ok(Exit::Interrupted),
    }
}

/// Help and version are results; everything else is wrong usage.
fn misused(error: &clap::Error) -> Exit {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = wants_json();
    if json && !is_answer {
        let text = error.render().to_string();
        let message =
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let hint = "see: offsite-target --help";
        return Output { json }.failure(&Failure::usage(message, hint));
    }
    // Nobody is left to tell when even this cannot be printed.
    drop(error.print());
    if is_answer { Exit::Done } else { Exit::Usage }
}

fn wants_json() -> bool {
    std::env::args_os().any(|word| word == "--json")
}
