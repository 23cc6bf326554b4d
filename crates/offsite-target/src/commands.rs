//! The verbs of the command line, one file each; this one says which file a word leads to.

mod agents;
mod approvals;
mod audit;
mod enrolment;
mod init;
mod login;
mod offline;
mod pairing;
mod points;
mod rebuild;
mod report;
mod requests;
mod restore;
mod retention;
mod serve;
mod sources;
mod status;
mod storage;
mod tenants;
mod tokens;
mod upkeep;
mod users;
mod verify;

use offsite_terminal::{Exit, Failure};

use crate::cli::Command;
use crate::context::Context;
use crate::exit::not_built;

/// Does what the command line says.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(told) => init::run(context, &told),
        Command::Serve => serve::run(context).await,
        Command::Status => status::status(context).await,
        Command::Fingerprint => status::fingerprint(context).await,
        Command::Doctor => status::doctor(context).await,
        Command::Requests(verb) => requests::run(context, verb).await,
        Command::Sources(verb) => sources::run(context, verb).await,
        Command::Tenants(verb) => tenants::run(context, verb).await,
        Command::Agents(verb) => agents::run(context, verb).await,
        Command::Storage(verb) => storage::run(context, verb).await,
        Command::Users(verb) => users::run(context, verb).await,
        Command::Login { user, password_file } => login::run(context, user, &password_file).await,
        Command::Tokens(verb) => tokens::run(context, verb).await,
        Command::Audit(verb) => audit::run(context, verb).await,
        Command::Enrolment(verb) => enrolment::run(context, verb).await,
        Command::Pairing(verb) => pairing::run(context, verb).await,
        Command::Approvals(verb) => approvals::run(context, verb).await,
        Command::Points(verb) => points::run(context, verb).await,
        Command::Retention(verb) => retention::run(context, verb).await,
        Command::Restore(asked) => restore::run(context, asked).await,
        Command::Verify(asked) => verify::run(context, asked).await,
        Command::Gc { all } => upkeep::gc(context, all).await,
        Command::Scrub => upkeep::scrub(context).await,
        Command::Rebuild { up_to_damage } => rebuild::run(context, up_to_damage).await,
        Command::Later(later) => Err(not_built(later.word())),
    }
}
