//! The grammar of the command line.
//!
//! **Absent:** what the words do (`commands`). Words of work that is not built are known and
//! refused by name.

pub(crate) mod retention;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use offsite_daemon::quantity::Size;
use offsite_proto::admin::target::Role;

/// Accepts sources, and keeps a second copy of their machines' recovery points.
#[derive(Debug, Parser)]
#[command(
    name = "offsite-target",
    version,
    about,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What applies to every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The data directory [default: the system's usual place for state]
    #[arg(long, global = true, value_name = "DIR", env = "OFFSITE_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON: one document, or one object per line while something is in progress
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Act as the account whose token is the first line of this file; `-` is standard input
    /// [default: act as the administrator of this machine]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the data directory: identity, authority, store, and the first administrator
    Init(Init),
    /// Run the daemon until it is told to stop
    Serve,
    /// Show what the daemon is doing
    Status,
    /// Show the fingerprint that sources' operators compare
    Fingerprint,
    /// Check everything that commonly goes wrong
    Doctor,
    /// Decide about sources that ask to pair
    #[command(subcommand)]
    Requests(Requests),
    /// See and revoke sources
    #[command(subcommand)]
    Sources(Sources),
    /// Keep customers apart
    #[command(subcommand)]
    Tenants(Tenants),
    /// See the machines whose recovery points are kept here
    #[command(subcommand)]
    Agents(Agents),
    /// Name the places where images go
    #[command(subcommand)]
    Storage(Storage),
    /// Name the operators
    #[command(subcommand)]
    Users(Users),
    /// Log in with a password; prints a token for a working day
    Login {
        /// The account
        #[arg(long, value_name = "NAME")]
        user: String,
        /// A file with its password in the first line; `-` is standard input
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Make and revoke access tokens
    #[command(subcommand)]
    Tokens(Tokens),
    /// Read and check the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Hand out codes that newcomers pair under
    #[command(subcommand)]
    Enrolment(Enrolment),
    /// Open or close the door for newcomers
    #[command(subcommand)]
    Pairing(Pairing),
    /// Agree to what another person began
    #[command(subcommand)]
    Approvals(Approvals),
    /// See recovery points, delete them, and take that back
    #[command(subcommand)]
    Points(Points),
    /// Say how long recovery points are kept
    #[command(subcommand)]
    Retention(retention::Retention),
    /// Write a volume of a recovery point to a file
    Restore(Restore),
    /// Read everything that is stored and name what is damaged
    Verify(Verify),
    /// Take back the space of what was removed for good
    Gc {
        /// Also out of segments of which little is garbage: takes longer, frees all
        #[arg(long)]
        all: bool,
    },
    /// Look for damage now, from where the last scrub stopped
    Scrub,
    /// Make the list of recovery points and the index again from what else the store holds; while
    /// no daemon runs
    Rebuild {
        /// Believe a damaged journal up to the damage: what was deleted or locked later is not
        #[arg(long)]
        up_to_damage: bool,
    },
    /// What a later release does
    #[command(flatten)]
    Later(Later),
}

/// What `init` is told.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// What this target is called
    #[arg(long)]
    pub(crate) name: String,
    /// Where sources connect
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8086")]
    pub(crate) listen: SocketAddr,
    /// Where operators connect
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8087")]
    pub(crate) operator: SocketAddr,
}

/// What to restore, and where to.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The agent: its id, SOURCE/NAME, or a name that only one has
    pub(crate) agent: String,
    /// The volume: its label or its id
    pub(crate) volume: String,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// The recovery point: its id, or latest
    #[arg(long, value_name = "POINT", default_value = "latest")]
    pub(crate) point: String,
    /// Read the store without a daemon
    #[arg(long)]
    pub(crate) offline: bool,
}

/// What to verify, and how.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Name only what hurts this agent's points; everything is read in any case
    pub(crate) agent: Option<String>,
    /// Read the store without a daemon; what is found is not put aside for healing
    #[arg(long, conflicts_with = "agent")]
    pub(crate) offline: bool,
}

/// Verbs about requests.
#[derive(Debug, Subcommand)]
pub(crate) enum Requests {
    /// List the requests that wait for a decision
    List {
        /// Decided and lapsed ones too
        #[arg(long)]
        all: bool,
    },
    /// Show one request
    Show {
        /// The request: its number or its id
        id: String,
    },
    /// Accept a request
    Accept(Accept),
    /// Reject a request
    Reject {
        /// The request: its number or its id
        id: String,
        /// A word to the source's operator
        #[arg(long)]
        message: String,
    },
}

/// What `requests accept` is told.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The request: its number or its id
    pub(crate) id: String,
    /// The check code that the source's operator reads out
    #[arg(long, conflicts_with = "without_code")]
    pub(crate) code: Option<String>,
    /// Go without the check code; the audit log says so
    #[arg(long)]
    pub(crate) without_code: bool,
    /// The tenant, by name or id [default: one of its own]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// The storage, by its number [default: the default one]
    #[arg(long, value_name = "ID")]
    pub(crate) storage: Option<i64>,
    /// The most it may store, such as "500 GB"
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<Size>,
    /// Let the source read its own recovery points back
    #[arg(long)]
    pub(crate) allow_restore: bool,
    /// Accept only this agent, by name or id; may be repeated [default: all]
    #[arg(long = "agent", value_name = "NAME")]
    pub(crate) agents: Vec<String>,
    /// A word to the source's operator
    #[arg(long)]
    pub(crate) message: Option<String>,
}

/// Verbs about sources.
#[derive(Debug, Subcommand)]
pub(crate) enum Sources {
    /// List the sources
    List,
    /// Show one source
    Show {
        /// The source: its id or its name
        id: String,
    },
    /// End a pairing at once; what it stored stays
    Revoke {
        /// The source: its id or its name
        id: String,
    },
    /// Let a source read its own recovery points back, from now on
    AllowRestore {
        /// The source: its id or its name
        id: String,
    },
    /// Take that right back, at once: what it is reading is cut off
    DenyRestore {
        /// The source: its id or its name
        id: String,
    },
    /// Let a new key take the place of a source that lost its own; a second person must agree
    Adopt {
        /// The source: its id or its name
        id: String,
        /// The request that the new key made
        #[arg(long, value_name = "ID")]
        request: String,
    },
}

/// Verbs about tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenants {
    /// List the tenants
    List,
    /// Make a tenant
    Add {
        /// Its name
        name: String,
    },
    /// Set quota and locks
    Set {
        /// The tenant: its name or its id
        name: String,
        /// The most it may store, such as "500 GB"; 0 = no quota
        #[arg(long, value_name = "SIZE")]
        quota: Option<Size>,
        /// Days for which a recovery point cannot be deleted by anybody; can only grow
        #[arg(long, value_name = "DAYS")]
        lock: Option<u32>,
        /// The same, as two persons may shorten it
        #[arg(long, value_name = "DAYS")]
        governance: Option<u32>,
    },
    /// Shorten a governance lock; a second person must agree
    ShortenLock {
        /// The tenant: its name or its id
        name: String,
        /// Days for which a recovery point cannot be deleted from then on
        #[arg(long, value_name = "DAYS")]
        governance: u32,
    },
    /// Delete a tenant that has nothing left; a second person must agree
    Delete {
        /// The tenant: its name or its id
        name: String,
    },
}

/// Verbs about agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// List the agents
    List,
    /// Show one agent
    Show {
        /// The agent: its id, SOURCE/NAME, or its name where only one has it
        agent: String,
    },
    /// Delete an agent's recovery points; that can be taken back for a while
    Delete {
        /// The agent: its id, SOURCE/NAME, or its name where only one has it
        agent: String,
    },
}

/// Verbs about recovery points.
#[derive(Debug, Subcommand)]
pub(crate) enum Points {
    /// List the recovery points of an agent, oldest first
    List {
        /// The agent: its id, SOURCE/NAME, or its name where only one has it
        agent: String,
    },
    /// Show one recovery point
    Show {
        /// Its id
        point: String,
    },
    /// Delete a recovery point; that can be taken back for a while
    Delete {
        /// Its id
        point: String,
    },
    /// Take a deletion back
    Undelete {
        /// Its id
        point: String,
    },
    /// Remove a deleted recovery point before its time; a second person must agree
    Purge {
        /// Its id
        point: String,
    },
}

/// Verbs about storage.
#[derive(Debug, Subcommand)]
pub(crate) enum Storage {
    /// List the storages
    List,
    /// Add a storage
    Add {
        /// Its name
        #[arg(long)]
        name: String,
        /// Its directory, empty or not there yet
        #[arg(long, value_name = "DIR")]
        path: PathBuf,
    },
    /// Report whose space it is, and when the store is full; `--json` for scripts
    Report {
        /// As CSV
        #[arg(long)]
        csv: bool,
    },
}

/// Verbs about accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Make an account
    Add {
        /// Its name
        name: String,
        /// What it may do: viewer, operator, administrator or officer
        #[arg(long)]
        role: Role,
        /// A file with its password in the first line; `-` is standard input [default: no password,
        /// tokens only]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// A tenant it is bound to; may be repeated [default: all]
        #[arg(long = "tenant", value_name = "NAME")]
        tenants: Vec<String>,
        /// Let it read data of its tenants back
        #[arg(long)]
        allow_restore: bool,
        /// Let it pair by demand with NTLM (not built yet)
        #[arg(long)]
        ntlm: bool,
    },
    /// Change an account's rights; what widens them needs a second person
    Set {
        /// Its name
        name: String,
        /// What it may do from then on
        #[arg(long)]
        role: Option<Role>,
        /// A tenant it is bound to from then on; may be repeated
        #[arg(long = "tenant", value_name = "NAME", conflicts_with = "all_tenants")]
        tenants: Vec<String>,
        /// Bind it to no tenant
        #[arg(long)]
        all_tenants: bool,
        /// Whether it may read data of its tenants back
        #[arg(long, value_name = "true|false")]
        allow_restore: Option<bool>,
    },
    /// List the accounts
    List,
    /// Remove an account
    Remove {
        /// Its name
        name: String,
    },
}

/// Verbs about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token; it is shown once
    Add {
        /// The account
        #[arg(long, value_name = "NAME")]
        user: String,
        /// How long it lasts [default: 90]
        #[arg(long)]
        days: Option<u32>,
        /// A narrower role than the account's
        #[arg(long)]
        role: Option<Role>,
    },
    /// List the tokens
    List,
    /// Revoke a token
    Revoke {
        /// Its id
        id: String,
    },
}

/// Verbs about the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check that no entry was changed or removed
    Verify,
    /// List the newest entries
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

/// Verbs about enrolment codes.
#[derive(Debug, Subcommand)]
pub(crate) enum Enrolment {
    /// Make a code; it is shown once
    Add {
        /// The tenant whose operators see what comes with it
        #[arg(long)]
        tenant: String,
        /// How long it waits for its use [default: 14]
        #[arg(long)]
        days: Option<u32>,
        /// A word for the list
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List the codes
    List,
}

/// Verbs about the door.
#[derive(Debug, Subcommand)]
pub(crate) enum Pairing {
    /// Show whether newcomers are let in
    Show,
    /// Let newcomers in
    Open {
        /// For so long [default: until it is closed]
        #[arg(long)]
        minutes: Option<u32>,
    },
    /// Let no newcomers in
    Close,
}

/// Verbs about approvals.
#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List what waits for a second person, and what ended
    List,
    /// Show exactly what would happen
    Show {
        /// The approval: its id
        id: String,
    },
    /// Agree, as the second person: with --token-file
    Approve {
        /// The approval: its id
        id: String,
        /// The digest that `show` printed: agree to exactly that [default: to what stands now]
        #[arg(long)]
        digest: Option<String>,
    },
    /// Refuse, as the second person: with --token-file
    Reject {
        /// The approval: its id
        id: String,
    },
}

/// Words of later releases: known, so that a script learns what is the matter.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
pub(crate) enum Later {
    /// Not built yet
    #[command(hide = true)]
    Nbd(Rest),
    /// Not built yet
    #[command(hide = true)]
    Seed(Rest),
}

impl Later {
    /// The word.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Nbd(_) => "nbd",
            Self::Seed(_) => "seed",
        }
    }
}

/// Whatever follows.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    /// Not looked at.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}
