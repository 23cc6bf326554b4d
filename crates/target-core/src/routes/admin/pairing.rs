//! The door for newcomers. Closing it is the safe direction and any operator's; opening it
//! is configuration.

use std::sync::Arc;

use offsite_model::Span;
use offsite_proto::admin::target::{ClosePairingDoor, OpenPairingDoor, Pairing, ShowPairing};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::Time;
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use crate::audit::Event;
use crate::peers::tables::Door;
use crate::principal::Principal;

/// The longest that the door opens for a while, in minutes.
const MINUTES_MAX: u32 = 60 * 24 * 30;

/// Whether the door is open.
pub(super) async fn show(
    state: Arc<Operators>,
    _: Call<ShowPairing, Principal>,
) -> Result<Reply<Json<Pairing>>, Refusal> {
    answer(state, |state| Ok(shown(state))).await
}

/// Opens it.
pub(super) async fn open(
    state: Arc<Operators>,
    call: Call<OpenPairingDoor, Principal>,
) -> Result<Reply<Json<Pairing>>, Refusal> {
    answer(state, move |state| {
        let door = match call.body.0.minutes {
            None => Door::Open,
            Some(minutes @ 1..=MINUTES_MAX) => {
                let end = state.target.now() + Span::from_secs(u64::from(minutes) * 60);
                Door::OpenUntil(end.into())
            }
            Some(_) => {
                return Err(Refusal::new(
                    ErrorCode::BadRequest,
                    format!("pairing opens for 1 to {MINUTES_MAX} minutes"),
                ));
            }
        };
        set(state, &call.principal, door, Event::PairingOpened)
    })
    .await
}

/// Closes it.
pub(super) async fn close(
    state: Arc<Operators>,
    call: Call<ClosePairingDoor, Principal>,
) -> Result<Reply<Json<Pairing>>, Refusal> {
    answer(state, move |state| set(state, &call.principal, Door::Closed, Event::PairingClosed))
        .await
}

fn set(state: &Operators, by: &Principal, door: Door, event: Event) -> Result<Pairing, Refusal> {
    let deed = state.target.deed(by);
    state.target.register().set_door(door, |step| {
        let until = match door {
            Door::OpenUntil(end) => Time(end.0).to_string(),
            Door::Open | Door::Closed => "further notice".to_owned(),
        };
        Ok(deed.record(step.rows(), event, None, &[("until", until)])?)
    })?;
    Ok(shown(state))
}

fn shown(state: &Operators) -> Pairing {
    let register = state.target.register();
    let open = register.is_open(state.target.now());
    let open_until = match register.door() {
        Door::OpenUntil(end) if open => Some(Time(end.0)),
        _ => None,
    };
    Pairing { open, open_until }
}
