//! The grammar of `retention`.

use clap::Subcommand;
use offsite_model::Policy;

/// Verbs about retention.
#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Show policies, how long a deletion can be taken back, and the retention clock
    Show {
        /// The agent: its id, SOURCE/NAME, or its name where only one has it [default: all]
        agent: Option<String>,
    },
    /// Set the policy of an agent, or of all that have none of their own
    ///
    /// A policy is "all", or words such as last=7 hourly=24 daily=14 weekly=8 monthly=12 yearly=3
    /// min-age=3d. A recovery point stays when any of them keeps it; of each hour, day, week, month
    /// and year the first point counts. The newest always stays.
    Set {
        /// The agent, if it is for one alone, and the policy
        #[arg(value_name = "[AGENT] POLICY", required_unless_present = "soft_delete")]
        words: Vec<String>,
        /// Days for which a deletion can be taken back, on the whole target; can only grow
        #[arg(long, value_name = "DAYS", conflicts_with = "words")]
        soft_delete: Option<u32>,
    },
    /// Show for every recovery point whether it would stay, and why
    Preview {
        /// The agent: its id, SOURCE/NAME, or its name where only one has it [default: all]
        agent: Option<String>,
        /// This policy instead of the one that is set
        #[arg(long)]
        policy: Option<Policy>,
    },
    /// Shorten the days for which a deletion can be taken back; a second person must agree
    Shorten {
        /// The days
        #[arg(long, value_name = "DAYS")]
        soft_delete: u32,
    },
    /// Credit the retention clock with time that it is owed; a second person must agree
    CreditClock {
        /// How many seconds; `show` says how many are owed
        #[arg(long)]
        seconds: u64,
    },
}

/// The agent and the policy among the words of `set`: the first word is an agent where it is no
/// rule and others follow.
pub(crate) fn agent_and_policy(words: &[String]) -> (Option<String>, String) {
    match words {
        [agent, rest @ ..] if !rest.is_empty() && !agent.contains('=') => {
            (Some(agent.clone()), rest.join(" "))
        }
        words => (None, words.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_from_a_policy() {
        let told = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            agent_and_policy(&words)
        };
        let agent = |name: &str, policy: &str| (Some(name.to_owned()), policy.to_owned());
        assert_eq!(told(&["all"]), (None, "all".into()));
        assert_eq!(told(&["last=3"]), (None, "last=3".into()));
        assert_eq!(told(&["last=3", "daily=7"]), (None, "last=3 daily=7".into()));
        assert_eq!(told(&["web", "all"]), agent("web", "all"));
        assert_eq!(told(&["office/web", "last=3 daily=7"]), agent("office/web", "last=3 daily=7"));
        assert_eq!(told(&["web", "last=3", "daily=7"]), agent("web", "last=3 daily=7"));
    }
}
