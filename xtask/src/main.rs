//! One front door: every verb that a developer or CI needs, one file each.
//!
//! **Absent:** verbs with nothing behind them. A verb appears here with the thing it runs.

#![allow(
    clippy::disallowed_methods,
    reason = "a developer's tool reads the tree and the clock; nothing of it ships"
)]

mod bench;
mod cargo;
mod ci;
mod codegen;
mod cores;
mod demo;
mod link;
mod machines;
mod memory;
mod test;
mod tidy;
mod tools;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "One front door for developers and CI")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measure, beside other programs of the same trade
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Everything that CI runs, in order, with the seconds of each step
    Ci,
    /// What is too long for every change
    #[command(subcommand)]
    Torture(torture::Torture),
    /// Check what no compiler checks: layers, circles, dependencies, documents, words, rows
    Tidy {
        /// Break comments that are too wide first
        #[arg(long)]
        fix: bool,
    },
    /// Pair two throw-away cores, replicate disk images, restore and compare them
    Demo(demo::Demo),
    /// Write the tables of docs/protocol.md from the types that serve them
    Codegen {
        /// Write nothing; fail where a table differs
        #[arg(long)]
        check: bool,
    },
    /// Run the tests, and sum up what all test programs said
    Test {
        /// Handed to `cargo test`, such as `-p offsite-store d_03`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Bench(bench) => bench::run(&bench),
        Verb::Ci => ci::run(),
        Verb::Demo(demo) => demo::run(&demo),
        Verb::Tidy { fix: true } => tidy::fix().and_then(|()| tidy::run()),
        Verb::Tidy { fix: false } => tidy::run(),
        Verb::Codegen { check: true } => codegen::check(),
        Verb::Codegen { check: false } => codegen::write(),
        Verb::Torture(torture) => torture::run(&torture),
        Verb::Test { arguments } => test::run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
