//! How upkeep is run.

use offsite_model::Span;

/// Everything that can be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Taking space back.
    pub collect: CollectSettings,
    /// Looking for damage.
    pub scrub: ScrubSettings,
}

/// How space is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectSettings {
    /// Time from one collection by timetable to the next; zero for none.
    pub every: Span,
    /// A segment is emptied when at least so many percent of it are garbage.
    pub dead_percent: u8,
    /// Bytes that are read and written in a second; 0 for no limit.
    pub bytes_per_sec: u64,
    /// How long a damaged segment lies in quarantine.
    pub quarantine: Span,
}

impl Default for CollectSettings {
    fn default() -> Self {
        Self {
            every: Span::from_hours(24),
            dead_percent: 25,
            bytes_per_sec: 0,
            quarantine: Span::from_hours(24),
        }
    }
}

/// How damage is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Time from the beginning of one pass by timetable to the next; zero for none.
    pub every: Span,
    /// Percent of the time for which the disk is read.
    pub share_percent: u8,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self { every: Span::from_days(30), share_percent: 10 }
    }
}

impl Settings {
    /// The same, within bounds: damaged segments lie for a day at least, and a share of nothing
    /// would never end.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.collect.dead_percent = self.collect.dead_percent.clamp(1, 100);
        self.collect.quarantine = self.collect.quarantine.max(Span::from_hours(24));
        self.scrub.share_percent = self.scrub.share_percent.clamp(1, 100);
        self
    }
}
