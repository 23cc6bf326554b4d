//! What an operator has run before and after the volumes of an agent are read: freezing, snapshots.
//!
//! The hook after runs whatever happened in between, also when the hook before failed: a frozen
//! database or a forgotten snapshot is worse than a missing recovery point.
//!
//! **Absent:** starting processes (`daemon::command` behind [`Runner`]).

use std::path::Path;

use offsite_model::{FileSystem, Kind, Span};
use offsite_proto::admin::protection::Hooks;
use offsite_proto::error::ErrorCode;

use crate::error::Trouble;
use crate::memory::{AgentRow, HooksRow};

/// Longest time that a hook may be given, in seconds.
const TIMEOUT_SECS_MAX: u32 = 24 * 3_600;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the volumes are opened.
    Before,
    /// After the last was read.
    After,
}

impl Moment {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Whoever can run a program.
pub trait Runner: Send + Sync {
    /// Runs a program without a shell, with these variables, for at most so long; then it and
    /// everything it started is killed. The error is a clause that says what happened to it.
    ///
    /// # Errors
    /// When it could not be started, ended with another status than 0, or was killed.
    fn run(&self, program: &Path, variables: &[(&str, &str)], within: Span) -> Result<(), String>;
}

/// Runs the hooks around a reading. Remarks tell of failures that were not to matter.
///
/// # Errors
/// The reading's; else a hook's, unless the agent's hooks may fail.
pub(crate) fn around<T>(
    runner: &dyn Runner,
    agent: &AgentRow,
    hooks: Option<&HooksRow>,
    remarks: &mut Vec<String>,
    read: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let Some(hooks) = hooks else { return read() };
    let before = run(runner, agent, hooks, Moment::Before, "");
    let outcome = match tolerate(hooks, before, remarks) {
        Ok(()) => read(),
        Err(trouble) => Err(trouble),
    };
    let result = if outcome.is_ok() { "read" } else { "failed" };
    let after = run(runner, agent, hooks, Moment::After, result);
    match outcome {
        Ok(value) => tolerate(hooks, after, remarks).map(|()| value),
        Err(mut trouble) => {
            // The first failure is the cause; the second must not be lost either.
            if let Err(second) = after {
                trouble.message = format!("{}; and then: {}", trouble.message, second.message);
            }
            Err(trouble)
        }
    }
}

fn tolerate(
    hooks: &HooksRow,
    ran: Result<(), Trouble>,
    remarks: &mut Vec<String>,
) -> Result<(), Trouble> {
    match ran {
        Err(trouble) if hooks.proceed_on_failure => {
            tracing::warn!(cause = trouble.message, "a hook failed and is set not to matter");
            remarks.push(trouble.message);
            Ok(())
        }
        other => other,
    }
}

fn run(
    runner: &dyn Runner,
    agent: &AgentRow,
    hooks: &HooksRow,
    moment: Moment,
    result: &str,
) -> Result<(), Trouble> {
    let program = match moment {
        Moment::Before => &hooks.before,
        Moment::After => &hooks.after,
    };
    let Some(program) = program else { return Ok(()) };
    let id = agent.agent_id().to_string();
    let variables = [
        ("OFFSITE_HOOK", moment.as_str()),
        ("OFFSITE_AGENT", agent.name.as_str()),
        ("OFFSITE_AGENT_ID", id.as_str()),
        ("OFFSITE_RESULT", result),
    ];
    let within = Span::from_secs(u64::from(hooks.timeout_seconds));
    runner.run(Path::new(program), &variables, within).map_err(|why| {
        let moment = moment.as_str();
        Trouble::operator(
            ErrorCode::WrongState,
            format!("the hook {moment} protecting agent {} failed: {program} {why}", agent.name),
            format!(
                "run it by hand as the daemon's user; its settings: offsite-source agents hooks {}",
                agent.name
            ),
        )
    })
}

/// Checks hooks as an operator gives them.
///
/// # Errors
/// `bad_request`.
pub fn check(files: &dyn FileSystem, hooks: &Hooks) -> Result<HooksRow, Trouble> {
    let wrong = |message: String| {
        Trouble::operator(
            ErrorCode::BadRequest,
            message,
            "name a program by its absolute path; it is run without a shell and without arguments",
        )
    };
    for program in [&hooks.before, &hooks.after].into_iter().flatten() {
        let shown: String = program.chars().take(200).flat_map(char::escape_debug).collect();
        let path = Path::new(program);
        if !path.is_absolute() || program.len() > 4_096 || program.contains('\0') {
            return Err(wrong(format!("{shown} is not an absolute path")));
        }
        let found =
            files.metadata(path).map_err(|error| wrong(format!("cannot use {shown}: {error}")))?;
        if !matches!(found.kind, Kind::File | Kind::Symlink) {
            return Err(wrong(format!("{shown} is not a program")));
        }
    }
    if !(1..=TIMEOUT_SECS_MAX).contains(&hooks.timeout_seconds) {
        return Err(wrong(format!("a hook may take 1 to {TIMEOUT_SECS_MAX} seconds")));
    }
    Ok(HooksRow {
        before: hooks.before.clone(),
        after: hooks.after.clone(),
        timeout_seconds: hooks.timeout_seconds,
        proceed_on_failure: hooks.proceed_on_failure,
    })
}

/// Hooks for people and scripts.
#[must_use]
pub fn view(hooks: Option<HooksRow>) -> Hooks {
    hooks.map_or_else(Hooks::default, |row| Hooks {
        before: row.before,
        after: row.after,
        timeout_seconds: row.timeout_seconds,
        proceed_on_failure: row.proceed_on_failure,
    })
}
