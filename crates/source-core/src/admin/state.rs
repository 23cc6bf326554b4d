//! What all handlers of the local socket share.

use std::sync::Arc;

use offsite_model::{FileSystem, Span};
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_transport::{Call, Reply};
use tokio_util::sync::CancellationToken;

use crate::engine::Handle;
use crate::jobs::Jobs;
use crate::keeper::Keeper;
use crate::pairing::Means;
use crate::protect::Protection;
use crate::replicate::Replicator;

/// What the handlers share.
pub struct Admin {
    /// Memory, keys, clock: what the engine works with.
    pub means: Arc<Means>,
    /// Where volumes lie.
    pub files: Arc<dyn FileSystem>,
    /// What makes and reads recovery points.
    pub protection: Arc<Protection>,
    /// What keeps the store in order.
    pub keeper: Arc<Keeper>,
    /// How long a point stays for the sake of a target that has not got it.
    pub await_max: Span,
    /// What sends recovery points to targets.
    pub replicator: Arc<Replicator>,
    /// What runs and what ran.
    pub jobs: Jobs,
    /// The engine's door.
    pub handle: Handle,
    /// Version of the program.
    pub version: &'static str,
    /// When the daemon began to serve.
    pub since: Span,
    /// Cancelled when the daemon stops.
    pub stop: CancellationToken,
}

/// The operator at the local socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The user's number.
    pub uid: u32,
}

pub(super) type Answered<T> = Result<Reply<Json<T>>, Refusal>;
pub(super) type Asked<E> = Call<E, Operator>;

pub(super) fn reply<T>(value: T) -> Answered<T> {
    Ok(Reply::new(Json(value)))
}
