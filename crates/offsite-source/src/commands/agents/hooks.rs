//! `agents hooks`: what runs before and after an agent's volumes are read.

use std::path::{Path, PathBuf};

use offsite_proto::admin::protection::{Hooks, OfAgent, SetHooks, ShowHooks};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts};

use crate::cli;
use crate::context::Context;
use crate::place::absolute;

pub(crate) async fn run(context: &Context, asked: cli::Hooks) -> Result<Exit, Failure> {
    let cli::Hooks { name, before, after, timeout, proceed_on_failure, clear } = asked;
    let agent = OfAgent(name);
    let is_question = !clear && !proceed_on_failure && timeout.is_none();
    let Json(hooks) = if is_question && before.is_none() && after.is_none() {
        context.ask::<ShowHooks>(&agent, &()).await?
    } else {
        let shipped = Hooks::default();
        let hooks = Hooks {
            before: program(before)?,
            after: program(after)?,
            timeout_seconds: timeout.unwrap_or(shipped.timeout_seconds),
            proceed_on_failure,
        };
        context.ask::<SetHooks>(&agent, &Json(hooks)).await?
    };
    context.out.result(&hooks, text)
}

fn program(path: Option<PathBuf>) -> Result<Option<String>, Failure> {
    path.as_deref().map(named).transpose()
}

fn named(path: &Path) -> Result<String, Failure> {
    absolute(path)?.into_os_string().into_string().map_err(|_| {
        Failure::usage("a hook's path is not UTF-8", "give the program a name of plain characters")
    })
}

fn text(hooks: &Hooks) -> String {
    let failure = if hooks.proceed_on_failure { "is remarked only" } else { "ends the protecting" };
    facts(&[
        ("before", Some(hooks.before.clone().unwrap_or_else(|| "nothing".to_owned()))),
        ("after", Some(hooks.after.clone().unwrap_or_else(|| "nothing".to_owned()))),
        ("timeout", Some(format!("{} s", hooks.timeout_seconds))),
        ("failure", Some(failure.to_owned())),
    ])
}
