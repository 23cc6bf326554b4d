//! `pair wait`: until the request is decided and, if accepted, the pairing is active; or until
//! interrupted.

use offsite_daemon::shutdown;
use offsite_proto::admin::source::{Pairing, ReadPairing, ShowPairing, State};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use super::text;
use crate::context::Context;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<Exit, Failure> {
    let spinner = context.out.spinner("waiting");
    let resolved = tokio::select! {
        resolved = resolved(context, target, |pairing| {
            let message = pairing.message.as_deref().unwrap_or_default();
            spinner.say(message);
        }) => resolved,
        interrupted = shutdown::interrupted() => {
            drop(spinner);
            interrupted.map_err(|error| Failure::failed(format!("cannot listen for signals: \
                {error}")))?;
            return Err(Failure::new(
                Exit::Interrupted,
                "interrupted",
                "stopped waiting; the request stands",
                "go on with: offsite-source pair wait",
            ));
        }
    };
    drop(spinner);
    let pairing = resolved?;
    context.out.result(&pairing, text)?;
    Ok(exit(&pairing))
}

/// The pairing once nothing more happens without a person. Scripts get a line for each change on
/// the way.
async fn resolved(
    context: &Context,
    target: Option<String>,
    show: impl Fn(&Pairing),
) -> Result<Pairing, Failure> {
    let mut after = None;
    loop {
        let params = ShowPairing { target: target.clone(), after };
        let Json(pairing) = context.ask::<ReadPairing>(&params, &()).await?;
        if pairing.is_resolved() {
            return Ok(pairing);
        }
        show(&pairing);
        if context.out.json && after != Some(pairing.change) {
            context.out.step(&pairing)?;
        }
        after = Some(pairing.change);
    }
}

fn exit(pairing: &Pairing) -> Exit {
    match pairing.state {
        _ if pairing.alarm => Exit::Refused,
        State::Active => Exit::Done,
        State::Rejected | State::Ended => Exit::Refused,
        State::Unpaired => Exit::Unknown,
        State::Expired | State::Pending | State::Accepted => Exit::Failed,
    }
}
