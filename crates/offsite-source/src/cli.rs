//! The grammar of the command line.
//!
//! **Absent:** what the words do (`commands`). Commands of work that is not built do not exist
//! here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use offsite_model::{AgentId, CoreId};

/// Protects machines and keeps a second copy of their recovery points at a target.
#[derive(Debug, Parser)]
#[command(
    name = "offsite-source",
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
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the data directory and this source's identity
    Init {
        /// What this source is called at its targets
        #[arg(long)]
        name: String,
        /// Come back as a source that was lost: its core id, as `offsite-target sources show` has
        /// it. Two people at the target must agree before it gets what the lost one had
        #[arg(long = "as", value_name = "CORE_ID")]
        lost: Option<CoreId>,
    },
    /// Run the daemon until it is told to stop
    Serve,
    /// Show what the daemon is doing
    Status,
    /// Check the data directory, the clock and, step by step, the way to a target
    Doctor {
        /// The target to reach [default: those of the pairings]
        url: Option<String>,
    },
    /// Name the machines to protect
    #[command(subcommand)]
    Agents(Agents),
    /// Make a recovery point of an agent now
    Protect {
        /// The agent: its name or its id
        name: String,
    },
    /// Send an agent's recovery points to its target now
    Replicate {
        /// The agent: its name or its id
        name: String,
        /// The target: HOST:PORT or its id [default: the newest pairing]
        #[arg(long)]
        target: Option<String>,
        /// Follow the job until it is done; Ctrl-C stops it
        #[arg(long)]
        wait: bool,
    },
    /// See and stop what the daemon is doing
    #[command(subcommand)]
    Jobs(Jobs),
    /// List, show and delete recovery points
    #[command(subcommand)]
    Points(Points),
    /// Write a volume of a recovery point to a file or a device
    Restore(Restore),
    /// Read everything that is kept and name what is damaged
    Verify,
    /// Say which of this source's own recovery points stay
    #[command(subcommand)]
    Retention(Retention),
    /// Take back the space of deleted recovery points
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
        /// Believe a damaged journal up to the damage: what was deleted later is not
        #[arg(long)]
        up_to_damage: bool,
    },
    /// Pair with a target
    #[command(subcommand)]
    Pair(Pair),
    /// End a pairing on both sides
    Unpair {
        /// The target: its name, HOST:PORT or its id, as `pair status` shows them
        target: String,
        /// Have the target delete the recovery points of this source as well
        #[arg(long)]
        delete_recovery_points: bool,
    },
}

/// Verbs about agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// Add an agent
    Add {
        /// Its name, one of a kind at this source
        name: String,
        /// A volume: a label and a disk image or block device
        #[arg(long = "volume", value_name = "LABEL=PATH", required = true)]
        volumes: Vec<String>,
        /// Encrypt its records before they leave this source (not built yet)
        #[arg(long)]
        encrypt: bool,
        /// The id it had at a source that was lost, as `offsite-target agents list` shows it
        #[arg(long = "as", value_name = "AGENT_ID")]
        lost: Option<AgentId>,
    },
    /// List the agents
    List,
    /// Show one agent
    Show {
        /// Its name or its id
        name: String,
    },
    /// Show or set what runs before and after an agent's volumes are read
    Hooks(Hooks),
    /// Forget an agent; its volumes are not touched
    Remove {
        /// Its name or its id
        name: String,
    },
}

/// What runs before and after an agent's volumes are read. Without an option: show.
#[derive(Debug, Args)]
pub(crate) struct Hooks {
    /// The agent: its name or its id
    pub(crate) name: String,
    /// A program to run before, such as one that freezes a database or makes a snapshot
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) before: Option<PathBuf>,
    /// A program to run after, whatever happened in between
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) after: Option<PathBuf>,
    /// Seconds that each may take before it is killed [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Make the recovery point although a hook failed
    #[arg(long)]
    pub(crate) proceed_on_failure: bool,
    /// Run nothing any more
    #[arg(long, conflicts_with_all = ["before", "after", "timeout", "proceed_on_failure"])]
    pub(crate) clear: bool,
}

/// Verbs about jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List the jobs, the newest first
    List,
    /// Show one job
    Show {
        /// Its id
        job: String,
    },
    /// Stop a job at its next safe point
    Cancel {
        /// Its id
        job: String,
    },
    /// Do not replicate an agent until it is resumed; what runs stops at its next safe point
    Pause {
        /// The agent: its name or its id
        agent: String,
        /// The target, as `pair status` names it; default: the newest pairing
        #[arg(long, value_name = "TARGET")]
        target: Option<String>,
    },
    /// Replicate an agent again
    Resume {
        /// The agent: its name or its id
        agent: String,
        /// The target, as `pair status` names it; default: all that are paused
        #[arg(long, value_name = "TARGET")]
        target: Option<String>,
    },
}

/// Verbs about recovery points.
#[derive(Debug, Subcommand)]
pub(crate) enum Points {
    /// List the recovery points of an agent, oldest first
    List {
        /// The agent: its name or its id
        name: String,
    },
    /// Show one recovery point
    Show {
        /// Its id
        point: String,
    },
    /// Delete a recovery point; its space comes back with `gc`
    Delete {
        /// Its id
        point: String,
        /// Do not ask, even where a target lacks it
        #[arg(long)]
        yes: bool,
    },
}

/// Verbs about retention at this source; targets have their own.
#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Show the policy of an agent, or of all that have none of their own
    Show {
        /// The agent: its name or its id
        name: Option<String>,
    },
    /// Set the policy of an agent, or of all that have none of their own
    Set {
        /// The agent: its name or its id
        name: Option<String>,
        /// The policy, such as "last=7 daily=14 weekly=8 min-age=3d", or "all"
        #[arg(long, required_unless_present = "inherit")]
        policy: Option<String>,
        /// Take the agent's own policy away
        #[arg(long, conflicts_with = "policy", requires = "name")]
        inherit: bool,
    },
    /// Show what would stay and what would go, and why; changes nothing
    Preview {
        /// The agent: its name or its id
        name: String,
        /// A policy to look at [default: the one that holds]
        #[arg(long)]
        policy: Option<String>,
    },
    /// Delete what goes, now and not only before the next collection
    Apply {
        /// The agent: its name or its id [default: all]
        name: Option<String>,
    },
}

/// What to restore, and where to.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The agent: its name or its id
    pub(crate) name: String,
    /// The volume's label
    pub(crate) volume: String,
    /// The file or block device to write
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// The recovery point: its id, or latest
    #[arg(long, value_name = "POINT", default_value = "latest")]
    pub(crate) point: String,
    /// Bring it back from this target: its name, HOST:PORT or its id [default: from this source]
    #[arg(long, value_name = "TARGET")]
    pub(crate) from: Option<String>,
    /// Write over what is there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Write even over a volume that an agent protects, such as the machine's own disk
    #[arg(long, requires = "overwrite")]
    pub(crate) overwrite_volume: bool,
}

/// Verbs about pairings.
#[derive(Debug, Subcommand)]
pub(crate) enum Pair {
    /// Ask a target to pair; a person at the target decides
    Request(Request),
    /// Show how the pairing stands
    Status(OfTarget),
    /// Wait until the request is decided and, if accepted, the pairing is active
    Wait(OfTarget),
    /// Print the check code to compare with the target's operator
    Code(OfTarget),
    /// Take back a request that is not decided yet
    Withdraw(OfTarget),
    /// Renew the certificate now instead of at two thirds of its life
    Renew(OfTarget),
    /// Go on after an alarm, with the target's key that was remembered
    Retry(OfTarget),
    /// Forget a pairing at this side only, such as after an alarm; says what is given up
    Reset(OfTarget),
}

/// What a request to pair says.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Where the target listens for sources: https://HOST:PORT
    pub(crate) url: String,
    /// An agent to replicate
    #[arg(long = "agent", value_name = "NAME", required = true)]
    pub(crate) agents: Vec<String>,
    /// Your customer number at the provider
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) customer: String,
    /// Where you can be reached
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) email: String,
    /// A word to the target's operator
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) comment: String,
    /// The enrolment code you got from the target's operator
    #[arg(long, value_name = "C")]
    pub(crate) enrolment_code: Option<String>,
}

/// Which pairing is meant.
#[derive(Debug, Args)]
pub(crate) struct OfTarget {
    /// The target: its name, HOST:PORT or its id [default: the newest pairing]
    #[arg(long)]
    pub(crate) target: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        super::Cli::command().debug_assert();
    }
}
