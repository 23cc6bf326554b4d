//! How much of what an agent sends is new here, day by day; a day that is quite unlike the two
//! weeks before it is told to a person, and nothing else follows from it (C-11).
//!
//! Encrypted machines look like this: records that nobody has, in volumes that hardly changed.
//! What counts is the records that arrived for an image, against the size of its volume. Days are
//! those of the target, and the median over them is moved by no number of points on one of them.
//!
//! **Absent:** what arrived of an image before this target was started anew; any act.

use offsite_model::{AgentId, Timestamp};
use offsite_store::catalog::{Order, RowsMut, Table, Transactions, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use super::Replicas;
use super::images::{ImageName, Owner};
use crate::audit::{self, Event};
use crate::failure::Failure;
use crate::principal::ITSELF;

/// Figures by tenant, source, agent and day.
const NOVELTY: Table = Table::new("agent_novelty");
/// Days before today of which the median is taken.
const DAYS: u32 = 14;
/// Of so many of them at least something must be known.
const DAYS_KNOWN_MIN: usize = 3;
/// So many times the median is told.
const TIMES: u64 = 5;
/// A median below this, in millionths, counts as this: nobody is called for a few records of an
/// agent that never changes.
const MEDIAN_MIN: u64 = 1_000;
const MILLION: u128 = 1_000_000;
const SECS_PER_DAY: i64 = 86_400;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DayRow {
    unique_bytes: u64,
    volume_bytes: u64,
    /// Somebody was told on this day.
    is_told: bool,
}

impl Value for DayRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

impl DayRow {
    /// Unique bytes per volume byte, in millionths.
    fn millionths(&self) -> u64 {
        millionths(self.unique_bytes, self.volume_bytes)
    }
}

fn millionths(unique_bytes: u64, volume_bytes: u64) -> u64 {
    let share = u128::from(unique_bytes) * MILLION / u128::from(volume_bytes.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn day_of(now: Timestamp) -> u32 {
    u32::try_from(now.as_secs().div_euclid(SECS_PER_DAY)).unwrap_or(0)
}

fn key(owner: &Owner, agent: AgentId, day: u32) -> Vec<u8> {
    [&owner.of_agent(agent)[..], &day.to_be_bytes()].concat()
}

/// The median of days; none while too few are known.
fn median(days: impl Iterator<Item = DayRow>) -> Option<u64> {
    let mut shares: Vec<u64> = days.map(|day| day.millionths()).collect();
    shares.sort_unstable();
    let middle = shares.get(shares.len() / 2).copied();
    middle.filter(|_| shares.len() >= DAYS_KNOWN_MIN)
}

impl Replicas {
    /// Notes what an image brought, and tells a person where that is unusual. What cannot be noted
    /// is not noted: nothing depends on it. Blocks.
    pub(super) fn note_novelty(&self, name: &ImageName, unique_bytes: u64, volume_bytes: u64) {
        let now = self.world.clock.now();
        let noted = self.catalog.write(|rows| note(rows, name, now, unique_bytes, volume_bytes));
        if let Err(cause) = noted {
            tracing::warn!(agent = %name.agent, %cause, "cannot note how much was new");
        }
    }
}

fn note(
    rows: &mut dyn RowsMut,
    name: &ImageName,
    now: Timestamp,
    unique_bytes: u64,
    volume_bytes: u64,
) -> Result<(), Failure> {
    let (owner, agent, today) = (&name.owner, name.agent, day_of(now));
    let prefix = owner.of_agent(agent);
    let max = DAYS as usize + 2;
    let known = rows.scan_values::<DayRow>(NOVELTY, &prefix, None, Order::Ascending, max)?;
    let first = today.saturating_sub(DAYS);
    let mut before = Vec::new();
    for (known, row) in known {
        let day = known.last_chunk().map_or(0, |day| u32::from_be_bytes(*day));
        // Also what a clock that was wrong has put into the future.
        if day < first || day > today {
            rows.remove(NOVELTY, &known)?;
        } else if day < today {
            before.push(row);
        }
    }
    let key = key(owner, agent, today);
    let mut row = rows.value::<DayRow>(NOVELTY, &key)?.unwrap_or_default();
    row.unique_bytes = row.unique_bytes.saturating_add(unique_bytes);
    row.volume_bytes = row.volume_bytes.saturating_add(volume_bytes);
    let share = millionths(unique_bytes, volume_bytes);
    let usual = median(before.into_iter()).map(|median| median.max(MEDIAN_MIN));
    if let Some(usual) = usual.filter(|usual| share >= usual.saturating_mul(TIMES))
        && !row.is_told
    {
        row.is_told = true;
        tracing::error!(%agent, bytes = unique_bytes, "far more than usual was new of an agent");
        let percent = |millionths: u64| format!("{:.2}", millionths as f64 / 10_000.0);
        let facts = [
            ("agent", agent.to_string()),
            ("epoch", name.epoch.to_string()),
            ("new_percent", percent(share)),
            ("usual_percent", percent(usual)),
        ];
        let (principal, tenant) = (&ITSELF, Some(owner.tenant));
        let event = Event::NoveltyUnusual;
        audit::record(rows, &audit::Entry { at: now, principal, tenant, event, facts: &facts })?;
    }
    Ok(rows.put_value(NOVELTY, &key, &row)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_days_and_needs_some() {
        let day = |unique_bytes| DayRow { unique_bytes, volume_bytes: 1_000_000, is_told: false };
        let of = |days: &[u64]| median(days.iter().map(|n| day(*n)));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[5, 7]), None);
        assert_eq!(of(&[900_000, 5, 7]), Some(7));
        assert_eq!(of(&[4, 3, 2, 1]), Some(3));
        assert_eq!(day(1_000_000).millionths(), 1_000_000);
        assert_eq!(DayRow::default().millionths(), 0);
    }
}
