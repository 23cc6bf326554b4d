//! How full a store was each day, and when it will be full if that goes on.

use offsite_model::Timestamp;
use offsite_proto::admin::upkeep::Forecast;
use offsite_proto::text::Big;
use offsite_store::catalog::{Order, Table, Transactions, TypedRows, TypedRowsMut, Value};
use offsite_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

const FIGURES: Table = Table::new("upkeep_figures");
/// Days that are remembered, and those of them that a forecast looks at.
const DAYS_MAX: usize = 90;
const DAYS_OF_TREND: usize = 30;
/// A trend is told from so many days on.
const DAYS_MIN: usize = 3;
const SECS_PER_DAY: i64 = 86_400;

/// What a store took on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Days since 1970.
    pub day: u32,
    /// Bytes of its segments and lists.
    pub bytes: u64,
    /// Bytes that were free on its disk.
    pub bytes_free: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FigureRow {
    bytes: u64,
    bytes_free: u64,
}

impl Value for FigureRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// Remembers today's figures, once a day; those of long ago are forgotten. Blocks.
///
/// # Errors
/// The catalog's, or the disk's.
pub fn note(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let day = u32::try_from(now.as_secs().div_euclid(SECS_PER_DAY)).unwrap_or(0);
    let known = figures(store)?;
    if known.iter().any(|figure| figure.day == day) {
        return Ok(());
    }
    let row = FigureRow { bytes: store.bytes_in_all(), bytes_free: store.bytes_free()? };
    let n_old = (known.len() + 1).saturating_sub(DAYS_MAX);
    store.catalog().write::<_, StoreError>(|rows| {
        for old in known.iter().take(n_old) {
            rows.remove(FIGURES, &old.day.to_be_bytes())?;
        }
        Ok(rows.put_value(FIGURES, &day.to_be_bytes(), &row)?)
    })
}

/// What is remembered, oldest first. Blocks.
///
/// # Errors
/// The catalog's.
pub fn figures(store: &Store) -> Result<Vec<Figure>, StoreError> {
    let rows = store.catalog().read::<_, StoreError>(|rows| {
        Ok(rows.scan_values::<FigureRow>(FIGURES, b"", None, Order::Ascending, 2 * DAYS_MAX)?)
    })?;
    let figure = |(key, row): (Vec<u8>, FigureRow)| {
        let day = u32::from_be_bytes(key.try_into().ok()?);
        Some(Figure { day, bytes: row.bytes, bytes_free: row.bytes_free })
    };
    Ok(rows.into_iter().filter_map(figure).collect())
}

/// When a store is full if the trend of the last days goes on; none while there are too few of
/// them, and where it does not grow.
#[must_use]
pub fn forecast(figures: &[Figure]) -> Option<Forecast> {
    let recent = figures.iter().skip(figures.len().saturating_sub(DAYS_OF_TREND));
    let recent: Vec<&Figure> = recent.collect();
    let (first, last) = (recent.first()?, recent.last()?);
    if recent.len() < DAYS_MIN {
        return None;
    }
    let points: Vec<(f64, f64)> = recent
        .iter()
        .map(|figure| (f64::from(figure.day.saturating_sub(first.day)), figure.bytes as f64))
        .collect();
    let (slope, fit) = line(&points)?;
    if slope < 1.0 {
        return None;
    }
    let n_days = points.len();
    let sure = match (n_days, fit) {
        (21.., 0.8..) => "well",
        (7.., 0.5..) => "fairly",
        _ => "hardly",
    };
    Some(Forecast {
        full_in_days: (last.bytes_free as f64 / slope) as u64,
        bytes_per_day: Big(slope as u64),
        days_seen: n_days as u64,
        sure: sure.to_owned(),
    })
}

/// The slope of the line nearest to some points, and how much of what they vary it explains: 1 for
/// points on a line.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(x - x_mean, y - y_mean)).sum()
    };
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if xx <= 0.0 {
        return None;
    }
    let fit = if yy <= 0.0 { 1.0 } else { xy * xy / (xx * yy) };
    Some((xy / xx, fit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn days(of: impl Fn(u64) -> u64, n: u64) -> Vec<Figure> {
        let figure = |day: u64| {
            let bytes = of(day) * GIB;
            Figure { day: 20_000 + day as u32, bytes, bytes_free: 1_000 * GIB - bytes }
        };
        (0..n).map(figure).collect()
    }

    #[test]
    fn a_store_is_full_when_its_trend_says_so() {
        let told = forecast(&days(|day| 10 * day, 30)).unwrap();
        assert_eq!((told.full_in_days, told.bytes_per_day), (71, Big(10 * GIB)));
        assert_eq!((told.days_seen, &*told.sure), (30, "well"));
        let few = forecast(&days(|day| 10 * day, 3)).unwrap();
        assert_eq!((few.full_in_days, &*few.sure), (98, "hardly"));
        // Up one day and down the next, and a little up in all.
        let unsteady = forecast(&days(|day| 100 + day + 60 * (day % 2), 30)).unwrap();
        assert_eq!(unsteady.sure, "hardly");
        assert_eq!(forecast(&days(|day| 10 * day, 2)), None, "too few days");
        assert_eq!(forecast(&days(|_| 5, 30)), None, "it does not grow");
        assert_eq!(forecast(&days(|day| 500 - 10 * day, 30)), None, "it shrinks");
        assert_eq!(forecast(&[]), None);
        // What was long ago says nothing of what is now.
        let turned = days(|day| if day < 60 { 600 - 5 * day } else { 300 + 2 * (day - 60) }, 90);
        assert_eq!(forecast(&turned).unwrap().bytes_per_day, Big(2 * GIB));
    }
}
