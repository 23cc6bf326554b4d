//! Verbs about the door for newcomers.

use offsite_proto::admin::target::{
    self as calls, ClosePairingDoor, OpenPairing, OpenPairingDoor, ShowPairing,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use crate::cli::Pairing;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Pairing) -> Result<Exit, Failure> {
    let Json(door) = match verb {
        Pairing::Show => context.ask::<ShowPairing>(&(), &()).await?,
        Pairing::Open { minutes } => {
            context.ask::<OpenPairingDoor>(&(), &Json(OpenPairing { minutes })).await?
        }
        Pairing::Close => context.ask::<ClosePairingDoor>(&(), &()).await?,
    };
    context.out.result(&door, text)
}

fn text(door: &calls::Pairing) -> String {
    match (door.open, door.open_until) {
        (true, Some(until)) => format!("open until {until}"),
        (true, None) => "open".to_owned(),
        (false, _) => "closed".to_owned(),
    }
}
