//! The network: what may happen to a call on its way there and its answer on the way back.

use offsite_model::{Luck, Span};
use offsite_testkit::SeededLuck;

/// How often things go wrong, each out of a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Hazards {
    /// A call never arrives.
    pub lost: u64,
    /// A call arrives, its answer does not.
    pub cut: u64,
    /// A call arrives twice, the second time perhaps much later.
    pub twice: u64,
    /// A call or its answer takes longer than anybody waits.
    pub late: u64,
    /// A program dies before one of its effects.
    pub crash: u64,
    /// What is downloaded is not what was issued.
    pub tampered: u64,
    /// An act of the workload is hostile or foolish rather than sensible.
    pub folly: u64,
}

impl Hazards {
    /// Nothing goes wrong.
    pub const CALM: Self =
        Self { lost: 0, cut: 0, twice: 0, late: 0, crash: 0, tampered: 0, folly: 0 };

    /// Much goes wrong.
    pub const STORM: Self =
        Self { lost: 100, cut: 100, twice: 60, late: 60, crash: 12, tampered: 20, folly: 250 };
}

/// What becomes of one call.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    /// When it arrives, each time.
    pub(super) arrivals: Vec<Span>,
    /// How long the answer takes; `None` when it is lost.
    pub(super) answer: Option<Span>,
}

/// How long a caller waits.
pub(super) const TIMEOUT: Span = Span::from_secs(30);

pub(super) fn fate(luck: &SeededLuck, hazards: &Hazards) -> Fate {
    let delay = |is_late: bool| match is_late {
        true => Span::from_millis(luck.between(31_000, 7_200_000)),
        false => Span::from_millis(luck.between(1, 900)),
    };
    if luck.chance(hazards.lost, 1_000) {
        return Fate { arrivals: Vec::new(), answer: None };
    }
    let mut arrivals = vec![delay(luck.chance(hazards.late, 1_000))];
    if luck.chance(hazards.twice, 1_000) {
        arrivals.push(delay(luck.chance(500, 1_000)));
    }
    let is_cut = luck.chance(hazards.cut, 1_000);
    let answer = delay(luck.chance(hazards.late, 1_000));
    Fate { arrivals, answer: (!is_cut).then_some(answer) }
}

/// A number for the jitter of one step.
pub(super) fn jitter(luck: &SeededLuck) -> u16 {
    u16::try_from(luck.below(65_536)).expect("below its range")
}
