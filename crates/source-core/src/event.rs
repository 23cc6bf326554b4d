//! Everything that can wake the source. The list is closed: what is not here cannot change a
//! pairing.

use offsite_proto::admin::source::{EndPairing, Pairing, RequestPairing, ResetDone};
use tokio::sync::oneshot;

use crate::error::Trouble;
use crate::line::Outcome;
use offsite_exchange::pairing::source::Ticket;

/// Names a pairing of this source, for as long as the data directory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairingNumber(pub u32);

/// Where an answer to an order goes.
pub type ReplyTo<T> = oneshot::Sender<Result<T, Trouble>>;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// An operator gave an order.
    Ordered(Order),
    /// A call came to its end.
    Answered(PairingNumber, Ticket, Outcome),
    /// A pause is over; the count tells it from one that was replaced.
    Woken(PairingNumber, u64),
    /// The daemon stops.
    Stop,
}

impl Event {
    /// The word under which it is counted and logged.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ordered(_) => "ordered",
            Self::Answered(..) => "answered",
            Self::Woken(..) => "woken",
            Self::Stop => "stop",
        }
    }
}

/// What an operator may order about pairings. A target is its id or `HOST:PORT`; without one the
/// newest pairing is meant.
#[derive(Debug)]
pub enum Order {
    /// File a request.
    Request(RequestPairing, ReplyTo<Pairing>),
    /// Take a request back.
    Withdraw(Option<String>, ReplyTo<Pairing>),
    /// Renew the certificate now.
    Renew(Option<String>, ReplyTo<Pairing>),
    /// Go on after an alarm, with the remembered key.
    Retry(Option<String>, ReplyTo<Pairing>),
    /// Forget a pairing at this side.
    Reset(Option<String>, ReplyTo<ResetDone>),
    /// End a pairing on both sides.
    End(EndPairing, ReplyTo<Pairing>),
}
