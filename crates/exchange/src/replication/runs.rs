//! A set of whole numbers that mostly come in runs: positions of a volume.

use std::collections::BTreeMap;

use offsite_proto::bitmap::Run;

/// Numbers as runs that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Start to end, the end not included.
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    /// No numbers.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: BTreeMap::new() }
    }

    /// Adds a run; what is there already stays. A run that would pass the largest number ends
    /// there.
    pub fn insert(&mut self, run: Run) {
        let (mut start, mut end) = (run.start, run.start.saturating_add(run.count));
        if start == end {
            return;
        }
        if let Some((&before, &before_end)) = self.runs.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.runs.range(start..=end).next() {
            end = end.max(next_end);
            self.runs.remove(&next);
        }
        self.runs.insert(start, end);
    }

    /// Whether all numbers of a run are there.
    #[must_use]
    pub fn covers(&self, run: Run) -> bool {
        let end = run.start.saturating_add(run.count);
        run.count == 0
            || self.runs.range(..=run.start).next_back().is_some_and(|(_, have)| *have >= end)
    }

    /// The first number that is not there.
    #[must_use]
    pub fn first_gap(&self) -> u64 {
        match self.runs.first_key_value() {
            Some((0, end)) => *end,
            _ => 0,
        }
    }

    /// How many numbers are there.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().fold(0, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)))
    }

    /// The runs, ascending and apart.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs
            .iter()
            .map(|(start, end)| Run { start: *start, count: end.saturating_sub(*start) })
    }
}
