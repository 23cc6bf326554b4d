//! The pairing register: every request, pairing, key and system this target knows.
//!
//! One change is one catalog transaction, together with its audit entry ([`Register::step`]); the
//! index in memory follows once the transaction is durable. Changes are made one after another, so
//! that the index always shows a state that the catalog has had.
//!
//! **Absent:** sockets, certificates, what a request may become (that is
//! `exchange::pairing::target`).

mod index;
mod step;
pub mod stored;
pub mod tables;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use offsite_exchange::pairing::Rules;
use offsite_model::{CoreId, TenantId, Timestamp};
use offsite_proto::operator::RequestName;
use offsite_store::catalog::{
    Catalog, CatalogError, Order, Rows, Table, Transactions, TypedRows, TypedRowsMut, Value,
};

pub use index::{
    Enrolment, Entry, KeyThumbprint, Pairing, PendingCounts, Pin, Standing, network_of,
};
pub use step::Step;

use crate::failure::Failure;
use index::{Index, entry_of};
use tables::{Door, KEYS, Number, PEERS, PeerRow, REQUESTS, SINGLES, SUBJECTS, SYSTEMS, SystemRow};

/// The key of [`Door`] in [`SINGLES`].
const DOOR: &[u8] = b"door";
/// Rows read at a time.
const PAGE: usize = 256;

/// Called with each key whose connections must end. It notes those that are open at this moment,
/// and gives back what ends them and no others.
pub type OnEnd = Box<dyn Fn(&KeyThumbprint) -> Farewell + Send + Sync>;
/// Ends the connections that were noted.
pub type Farewell = Box<dyn FnOnce() + Send>;

/// The pairing register.
pub struct Register {
    catalog: Arc<dyn Catalog>,
    rules: Rules,
    /// Held through a change and the update of the index.
    alone: Mutex<()>,
    index: RwLock<Index>,
    door: RwLock<Door>,
    last_seen: Mutex<HashMap<CoreId, Timestamp>>,
    on_end: OnceLock<OnEnd>,
}

fn entered<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Register {
    /// Opens the register in this catalog and reads every key into memory.
    ///
    /// # Errors
    /// [`CatalogError`] when the catalog cannot be read.
    pub fn open(catalog: Arc<dyn Catalog>, rules: Rules) -> Result<Self, CatalogError> {
        let mut index = Index::default();
        let door = catalog.read(|rows| {
            each(rows, KEYS, |key, _: Number| {
                if let Ok(thumbprint) = KeyThumbprint::try_from(key) {
                    index.set(thumbprint, entry_of(rows, &thumbprint, &rules)?);
                }
                Ok(())
            })?;
            rows.value::<Door>(SINGLES, DOOR)
        })?;
        Ok(Self {
            catalog,
            rules,
            alone: Mutex::new(()),
            index: RwLock::new(index),
            door: RwLock::new(door.unwrap_or_default()),
            last_seen: Mutex::default(),
            on_end: OnceLock::new(),
        })
    }

    /// Says how the connections of a key are closed. Only the first call counts.
    pub fn on_end(&self, act: OnEnd) {
        if self.on_end.set(act).is_err() {
            tracing::warn!("the register already knows how to close connections");
        }
    }

    /// Closes every connection of this key.
    pub fn close(&self, thumbprint: &KeyThumbprint) {
        if let Some(end) = self.farewell(thumbprint) {
            end();
        }
    }

    /// What closes the connections that this key has now, and none that it opens later.
    #[must_use]
    pub fn farewell(&self, thumbprint: &KeyThumbprint) -> Option<Farewell> {
        self.on_end.get().map(|act| act(thumbprint))
    }

    /// What this key stands for now.
    #[must_use]
    pub fn standing(&self, thumbprint: &KeyThumbprint) -> Option<Standing> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.find(thumbprint).map(|entry| entry.standing.clone())
    }

    /// Whether this pairing still has this generation: asked by whoever works on for long after the
    /// gate.
    #[must_use]
    pub fn is_current(&self, thumbprint: &KeyThumbprint, generation: u64) -> bool {
        match self.standing(thumbprint) {
            Some(Standing::Paired(pairing)) => pairing.generation == generation,
            _ => false,
        }
    }

    /// Every key, with what it stands for.
    #[must_use]
    pub fn keys(&self) -> Vec<(KeyThumbprint, Standing)> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.iter().map(|(key, entry)| (*key, entry.standing.clone())).collect()
    }

    /// The rows for which a time is over: a request that lapses, a key whose overlap ends.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<u64> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let is_due = |entry: &Entry| match &entry.standing {
            Standing::Enrolling { resolution: Enrolment::Pending { expires_at, .. }, .. } => {
                now >= *expires_at
            }
            Standing::Paired(pairing) => pairing.pin.ends_at.is_some_and(|end| now >= end),
            _ => false,
        };
        index.iter().filter(|(_, entry)| is_due(entry)).map(|(_, entry)| entry.number).collect()
    }

    /// How many requests wait, in all and from this network.
    #[must_use]
    pub fn pending(&self, network: &[u8]) -> PendingCounts {
        self.index.read().unwrap_or_else(PoisonError::into_inner).pending(network)
    }

    /// Whether this key withdrew its request a while ago.
    #[must_use]
    pub fn is_withdrawn(&self, thumbprint: &KeyThumbprint) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).is_withdrawn(thumbprint)
    }

    /// Remembers, for as long as there is room, that this key withdrew its request.
    pub fn remember_withdrawn(&self, thumbprint: KeyThumbprint) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.remember_withdrawn(thumbprint);
    }

    /// Whether requests to pair are taken now.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.door().is_open(now)
    }

    /// The door for newcomers as it was last set.
    #[must_use]
    pub fn door(&self) -> Door {
        *self.door.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens or closes pairing, durably, together with what `also` writes.
    ///
    /// # Errors
    /// What `also` says, or the catalog.
    pub fn set_door(
        &self,
        door: Door,
        also: impl FnOnce(&mut Step<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.step(|step| {
            step.rows().put_value(SINGLES, DOOR, &door)?;
            also(step)
        })?;
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = door;
        Ok(())
    }

    /// Remembers that a source was heard of; written down by [`Register::write_down_last_seen`].
    pub fn saw(&self, subject: CoreId, now: Timestamp) {
        entered(&self.last_seen).insert(subject, now);
    }

    /// When a source was last heard of, if that was since the last start.
    #[must_use]
    pub fn last_seen(&self, subject: CoreId) -> Option<Timestamp> {
        entered(&self.last_seen).get(&subject).copied()
    }

    /// Writes down when sources were last heard of: once in a while, not on each of their calls.
    ///
    /// # Errors
    /// The catalog's.
    pub fn write_down_last_seen(&self) -> Result<(), Failure> {
        let seen = entered(&self.last_seen).clone();
        if seen.is_empty() {
            return Ok(());
        }
        self.step(|step| {
            for (subject, at) in seen {
                let Some(mut row) = step.peer_of_subject(subject)? else { continue };
                if row.last_seen.is_none_or(|before| before.0 < at) {
                    row.last_seen = Some(at.into());
                    step.put_peer(&row)?;
                }
            }
            Ok(())
        })
    }

    /// Makes one change: a transaction, then the index.
    ///
    /// # Errors
    /// What the change says, or the catalog; then nothing has changed.
    pub fn step<T>(
        &self,
        change: impl FnOnce(&mut Step<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let alone = entered(&self.alone);
        let (value, changes) = self.catalog.write(|rows| {
            let mut step = Step::new(rows);
            let value = change(&mut step)?;
            let touched = step.into_touched();
            let changes: Result<Vec<_>, Failure> = touched
                .into_iter()
                .map(|thumbprint| Ok((thumbprint, entry_of(rows, &thumbprint, &self.rules)?)))
                .collect();
            Ok::<_, Failure>((value, changes?))
        })?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for (thumbprint, entry) in changes {
            index.set(thumbprint, entry);
        }
        drop(index);
        drop(alone);
        Ok(value)
    }

    /// Looks at one state of the register.
    ///
    /// # Errors
    /// What the look says, or the catalog.
    pub fn look<T>(
        &self,
        look: impl FnOnce(&dyn Rows) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.catalog.read(look)
    }

    /// The row of the request that somebody names.
    ///
    /// # Errors
    /// The catalog's.
    pub fn named(&self, name: RequestName) -> Result<Option<PeerRow>, Failure> {
        self.look(|rows| match name {
            RequestName::Number(number) => peer(rows, Some(Number(number))),
            RequestName::Id(id) => peer(rows, rows.value(REQUESTS, &id.to_bytes())?),
        })
    }

    /// The row that this key leads to.
    ///
    /// # Errors
    /// The catalog's.
    pub fn of_key(&self, thumbprint: &KeyThumbprint) -> Result<Option<PeerRow>, Failure> {
        self.look(|rows| peer(rows, rows.value(KEYS, thumbprint)?))
    }

    /// The row of this pairing.
    ///
    /// # Errors
    /// The catalog's.
    pub fn of_subject(&self, subject: CoreId) -> Result<Option<PeerRow>, Failure> {
        self.look(|rows| peer(rows, rows.value(SUBJECTS, &subject.to_bytes())?))
    }

    /// Every row, oldest first.
    ///
    /// # Errors
    /// The catalog's.
    pub fn peers(&self) -> Result<Vec<PeerRow>, Failure> {
        self.all(PEERS)
    }

    /// Every system, smallest id first.
    ///
    /// # Errors
    /// The catalog's.
    pub fn systems(&self) -> Result<Vec<SystemRow>, Failure> {
        self.all(SYSTEMS)
    }

    fn all<T: Value>(&self, table: Table) -> Result<Vec<T>, Failure> {
        self.look(|rows| {
            let mut values = Vec::new();
            each(rows, table, |_, value| {
                values.push(value);
                Ok(())
            })?;
            Ok(values)
        })
    }
}

fn peer(rows: &dyn Rows, number: Option<Number>) -> Result<Option<PeerRow>, Failure> {
    match number {
        Some(Number(number)) => Ok(rows.value(PEERS, &number.to_be_bytes())?),
        None => Ok(None),
    }
}

/// Walks a whole table, a page at a time.
fn each<T: Value>(
    rows: &dyn Rows,
    table: Table,
    mut visit: impl FnMut(&[u8], T) -> Result<(), CatalogError>,
) -> Result<(), CatalogError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan_values::<T>(table, &[], after.as_deref(), Order::Ascending, PAGE)?;
        let is_last = page.len() < PAGE;
        for (key, value) in page {
            visit(&key, value)?;
            after = Some(key);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Names of the sources that still belong to a tenant.
pub(crate) fn sources_of<R: Rows + ?Sized>(
    rows: &R,
    tenant: TenantId,
) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page =
            rows.scan_values::<PeerRow>(PEERS, b"", after.as_deref(), Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(names) };
        after = Some(last.clone());
        for (_, row) in page {
            let is_its = row.place.as_ref().is_some_and(|place| place.tenant.0 == tenant);
            // An ended pairing's points may still be there, so it counts until it is forgotten.
            if is_its {
                names.push(row.asked().host_name.clone());
            }
        }
    }
}
