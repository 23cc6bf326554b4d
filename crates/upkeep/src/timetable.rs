//! When upkeep is due, and how it stands: remembered in the store's own catalog, so that a restart
//! neither forgets nor repeats.

use offsite_model::{Span, Timestamp};
use offsite_proto::admin::upkeep::{Collected, LastCollection, Upkeep};
use offsite_proto::text::{Big, Time};
use offsite_store::catalog::{Table, Transactions, TypedRows, TypedRowsMut, Value};
use offsite_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::figures::{figures, forecast};
use crate::scrub::told;
use crate::settings::Settings;

const COLLECTED: Table = Table::new("upkeep_collected");
const COLLECTED_KEY: &[u8] = b"last";

/// The last collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CollectedRow {
    at: i64,
    bytes_freed: u64,
    bytes_moved: u64,
    n_doubts: u64,
}

impl Value for CollectedRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// A collection.
    pub collect: bool,
    /// A scrub: the next one, or the rest of one that was stopped.
    pub scrub: bool,
}

impl Due {
    /// What is due now. A store that was never collected or scrubbed is due at once; so is one
    /// whose last time lies ahead, for then the clock was wrong.
    ///
    /// # Errors
    /// The catalog's.
    pub fn at(store: &Store, now: Timestamp, settings: &Settings) -> Result<Self, StoreError> {
        let is_due = |last: Option<Timestamp>, every: Span| {
            every > Span::ZERO && last.is_none_or(|last| now < last || now >= last + every)
        };
        let collected = row(store)?.map(|row| Timestamp::from_micros(row.at));
        let scrubs = store.scrub_state()?;
        let every = settings.scrub.every;
        let is_scrub_left = scrubs.running.is_some() && every > Span::ZERO;
        let scrubbed = scrubs.last.map(|pass| pass.began_at);
        Ok(Self {
            collect: is_due(collected, settings.collect.every),
            scrub: is_scrub_left || is_due(scrubbed, every),
        })
    }
}

fn row(store: &Store) -> Result<Option<CollectedRow>, StoreError> {
    store.catalog().read(|rows| Ok(rows.value::<CollectedRow>(COLLECTED, COLLECTED_KEY)?))
}

/// How upkeep of a store stands.
///
/// # Errors
/// The catalog's.
pub fn state(store: &Store) -> Result<Upkeep, StoreError> {
    let collected = row(store)?.map(|row| LastCollection {
        at: Time(Timestamp::from_micros(row.at)),
        bytes_freed: Big(row.bytes_freed),
        bytes_moved: Big(row.bytes_moved),
        doubts: row.n_doubts,
    });
    let scrubs = store.scrub_state()?;
    Ok(Upkeep {
        collected,
        scrubbed: scrubs.last.as_ref().map(told),
        scrubbing: scrubs.running.as_ref().map(told),
        forecast: forecast(&figures(store)?),
    })
}

/// Remembers a collection.
pub(crate) fn note_collection(
    store: &Store,
    at: Timestamp,
    collected: &Collected,
) -> Result<(), StoreError> {
    let row = CollectedRow {
        at: at.as_micros(),
        bytes_freed: collected.bytes_freed.0,
        bytes_moved: collected.bytes_moved.0,
        n_doubts: collected.doubts.len() as u64,
    };
    store
        .catalog()
        .write::<_, StoreError>(|rows| Ok(rows.put_value(COLLECTED, COLLECTED_KEY, &row)?))
}
