//! `offsite-source`: the daemon and its command line in one program.
//!
//! **Absent:** decisions. This file reads the command line, carries out one verb and ends with its
//! exit code.

mod cli;
mod commands;
mod context;
mod exit;
mod home;
mod place;
mod settings;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use offsite_terminal::{Exit, Failure, Output};

use crate::cli::Cli;
use crate::context::Context;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error).into(),
    };
    let out = Output { json: cli.common.json };
    let context = Context { data: cli.common.data.unwrap_or_else(place::usual), out };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::failed(format!("cannot start threads: {error}"));
            return out.failure(&failure).into();
        }
    };
    let ended = runtime.block_on(commands::run(&context, cli.command));
    // What still blocks on a disk must not keep a program that has ended.
    runtime.shutdown_background();
    ended.unwrap_or_else(|failure| out.failure(&failure)).into()
}

/// Help and version are answers; everything else is wrong usage.
fn not_understood(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        drop(error.print());
        return Exit::Done;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let message = error.to_string();
        let line = message.lines().next().unwrap_or_default();
        let message = line.strip_prefix("error: ").unwrap_or(line);
        let failure = Failure::usage(message, "see offsite-source --help");
        return Output { json: true }.failure(&failure);
    }
    drop(error.print());
    Exit::Usage
}
