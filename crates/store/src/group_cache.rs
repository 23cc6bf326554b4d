//! Decoded groups of which a reading wanted a part, kept until it wants the rest.
//!
//! A volume is read window by window, and its groups end where they like: one at the end of a
//! window goes on in the next, and the records that changed on one day share groups wherever in the
//! volume they stand. Without this, one group in eight was decoded twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::group::{Form, TableRow};

/// Decoded bytes that a reading keeps at most.
const KEPT_BYTES: usize = 16 << 20;
/// Buffers that wait to be used again.
const SPARE_MAX: usize = 4;

/// A group that was decoded, and whose records were compared with their keys.
pub(crate) struct Decoded {
    pub(crate) form: Form,
    pub(crate) table: Vec<TableRow>,
    pub(crate) raw: Vec<u8>,
}

/// Segment and place of a group.
pub(crate) type Whereabouts = (u32, u32);

/// Decoded groups of one reading: at most 16 MiB, the oldest first to go.
#[derive(Default)]
pub struct GroupCache(Mutex<Groups>);

#[derive(Default)]
struct Groups {
    kept: VecDeque<(Whereabouts, Arc<Decoded>)>,
    n_bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl GroupCache {
    /// A group that is kept.
    pub(crate) fn get(&self, place: Whereabouts) -> Option<Arc<Decoded>> {
        let groups = self.groups();
        let found = groups.kept.iter().find(|(at, _)| *at == place);
        found.map(|(_, decoded)| Arc::clone(decoded))
    }

    /// Room for a group of so many bytes, which holds anything.
    pub(crate) fn room(&self, bytes: usize) -> Vec<u8> {
        let mut room = self.groups().spare.pop().unwrap_or_default();
        room.resize(bytes, 0);
        room
    }

    /// Keeps a group of which more may be wanted.
    pub(crate) fn keep(&self, place: Whereabouts, decoded: Decoded) {
        let mut groups = self.groups();
        groups.n_bytes = groups.n_bytes.saturating_add(decoded.raw.len());
        groups.kept.push_back((place, Arc::new(decoded)));
        while groups.n_bytes > KEPT_BYTES
            && let Some((_, oldest)) = groups.kept.pop_front()
        {
            groups.n_bytes = groups.n_bytes.saturating_sub(oldest.raw.len());
            // Whoever reads it at this moment lets its memory go.
            if let Some(oldest) = Arc::into_inner(oldest) {
                groups.spare(oldest.raw);
            }
        }
    }

    /// Takes the room of a group back of which no more is wanted.
    pub(crate) fn give_back(&self, room: Vec<u8>) {
        self.groups().spare(room);
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    fn spare(&mut self, room: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(room);
        }
    }
}
