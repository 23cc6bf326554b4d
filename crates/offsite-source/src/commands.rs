//! The verbs: one file each.

pub(crate) mod agents;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod pair;
pub(crate) mod points;
pub(crate) mod protect;
pub(crate) mod rebuild;
pub(crate) mod replicate;
pub(crate) mod restore;
pub(crate) mod retention;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod unpair;
pub(crate) mod upkeep;
pub(crate) mod verify;
use offsite_terminal::{Exit, Failure};

use crate::cli::{Agents, Command, Pair, Points};
use crate::context::Context;

/// Carries out a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init { name, lost } => init::run(context, &name, lost),
        Command::Serve => serve::run(context).await,
        Command::Status => status::run(context).await,
        Command::Doctor { url } => doctor::run(context, url.as_deref()).await,
        Command::Agents(Agents::Add { name, volumes, encrypt, lost }) => {
            agents::add::run(context, name, &volumes, encrypt, lost).await
        }
        Command::Agents(Agents::List) => agents::list::run(context).await,
        Command::Agents(Agents::Show { name }) => agents::show::run(context, name).await,
        Command::Agents(Agents::Remove { name }) => agents::remove::run(context, name).await,
        Command::Agents(Agents::Hooks(hooks)) => agents::hooks::run(context, hooks).await,
        Command::Protect { name } => protect::run(context, name).await,
        Command::Replicate { name, target, wait } => {
            replicate::run(context, name, target, wait).await
        }
        Command::Jobs(verb) => jobs::run(context, verb).await,
        Command::Points(Points::List { name }) => points::list(context, name).await,
        Command::Points(Points::Show { point }) => points::show(context, &point).await,
        Command::Points(Points::Delete { point, yes }) => {
            points::delete(context, &point, yes).await
        }
        Command::Restore(restore) => restore::run(context, restore).await,
        Command::Verify => verify::run(context).await,
        Command::Retention(verb) => retention::run(context, verb).await,
        Command::Gc { all } => upkeep::gc(context, all).await,
        Command::Scrub => upkeep::scrub(context).await,
        Command::Rebuild { up_to_damage } => rebuild::run(context, up_to_damage).await,
        Command::Pair(Pair::Request(request)) => pair::request::run(context, request).await,
        Command::Pair(Pair::Status(of)) => pair::status::run(context, of.target).await,
        Command::Pair(Pair::Wait(of)) => pair::wait::run(context, of.target).await,
        Command::Pair(Pair::Code(of)) => pair::code::run(context, of.target).await,
        Command::Pair(Pair::Withdraw(of)) => pair::withdraw::run(context, of.target).await,
        Command::Pair(Pair::Renew(of)) => pair::renew::run(context, of.target).await,
        Command::Pair(Pair::Retry(of)) => pair::retry::run(context, of.target).await,
        Command::Pair(Pair::Reset(of)) => pair::reset::run(context, of.target).await,
        Command::Unpair { target, delete_recovery_points } => {
            unpair::run(context, target, delete_recovery_points).await
        }
    }
}
