//! The retention clock at work: kept in the catalog each minute, and read as a [`Clock`].
//!
//! What the store is told of points (when one was received, when one was marked as deleted) are
//! moments of this clock, so they stand in its journal and outlive the catalog.

use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::{Clock, Span, Timestamp};
use offsite_store::catalog::{
    Catalog, CatalogError, RowsMut, Table, Transactions, TypedRows, TypedRowsMut, Value,
};

use super::clock::{Jump, Reading, RetentionClock};
use crate::failure::Failure;

/// The clock, one row.
pub(crate) const CLOCK: Table = Table::new("retention_clock");
pub(crate) const CLOCK_KEY: &[u8] = b"clock";

impl Value for RetentionClock {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 16 << 10;
}

/// The retention clock of a target that has a store.
pub(crate) struct RetentionTime {
    clock: Arc<dyn Clock>,
    catalog: Arc<dyn Catalog>,
    kept: Mutex<RetentionClock>,
}

/// What a store says about the time, for a clock that begins or goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remembered {
    /// The newest moment in it.
    pub(crate) newest: Option<Timestamp>,
    /// Whether something waits in it for its time: what is deleted softly, or locked.
    pub(crate) is_waiting: bool,
}

impl RetentionTime {
    /// The clock as it was kept; else a new one, which shows what the system's clock shows. Where
    /// none was kept and the store has something that waits for its time, nobody knows how long
    /// it was down: it then begins at the newest moment of the store.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn open(
        clock: Arc<dyn Clock>,
        catalog: Arc<dyn Catalog>,
        remembered: Remembered,
    ) -> Result<(Arc<Self>, Option<Jump>), CatalogError> {
        let reading = Reading { wall: clock.now(), boot: clock.uptime() };
        let row = catalog.read(|rows| rows.value::<RetentionClock>(CLOCK, CLOCK_KEY))?;
        let (mut kept, is_new) = match (row, remembered.newest) {
            (Some(kept), _) => (kept, false),
            (None, Some(newest)) if remembered.is_waiting => {
                let then = Reading { wall: newest, ..reading };
                (RetentionClock::starting_at(newest, then), false)
            }
            (None, newest) => {
                let begin = newest.map_or(reading.wall, |newest| newest.max(reading.wall));
                (RetentionClock::starting_at(begin, reading), true)
            }
        };
        let jump = if is_new { None } else { kept.resume(reading, remembered.newest) };
        let time = Arc::new(Self { clock, catalog, kept: Mutex::new(kept) });
        time.write()?;
        Ok((time, jump))
    }

    /// Lets it go on and keeps it; whether the system's clock did not show what passed. Blocks.
    ///
    /// # Errors
    /// The catalog's; the clock goes on.
    pub(crate) fn keep(&self) -> Result<Option<Jump>, CatalogError> {
        let reading = Reading { wall: self.clock.now(), boot: self.clock.uptime() };
        let jump = self.locked(|kept| kept.advance(reading));
        self.write()?;
        Ok(jump)
    }

    fn write(&self) -> Result<(), CatalogError> {
        let kept = self.look(Clone::clone);
        self.catalog.write(|rows| rows.put_value(CLOCK, CLOCK_KEY, &kept))
    }

    /// Looks at it as it was moved last.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&RetentionClock) -> T) -> T {
        self.locked(|kept| look(kept))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut RetentionClock) -> T) -> T {
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over what two persons credited to the kept clock.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn credited(&self, span: Span) -> Result<(), CatalogError> {
        self.locked(|kept| kept.credit_owed(span));
        self.write()
    }
}

/// How much time is owed to the clock as it was kept last.
///
/// # Errors
/// The catalog's.
pub(crate) fn owed(rows: &dyn RowsMut) -> Result<Span, Failure> {
    let kept = rows.value::<RetentionClock>(CLOCK, CLOCK_KEY)?;
    Ok(kept.map_or(Span::ZERO, |kept| kept.owed()))
}

impl Clock for RetentionTime {
    fn now(&self) -> Timestamp {
        let boot = self.clock.uptime();
        self.look(|kept| kept.at(boot))
    }

    fn uptime(&self) -> Span {
        self.clock.uptime()
    }
}
