//! What `bench wan` is told, and the links that it measures by itself.

use std::time::Duration;

use clap::Args;

use crate::bench::options::{Common, Size};
use crate::link::{Burst, Conditions, Cut};

/// Bits per second of a link of which nothing else is said.
const RATE_MBIT: f64 = 100.0;
/// How long its queue is, as that of many routers.
const QUEUE_MS: f64 = 100.0;

#[derive(Args)]
pub(crate) struct Wan {
    #[command(flatten)]
    pub(super) common: Common,
    /// Round trip; without any word about the link, the three of docs/benchmarks.md are measured
    #[arg(long, value_name = "MS")]
    rtt: Option<f64>,
    /// How far each delay differs
    #[arg(long, value_name = "MS")]
    jitter: Option<f64>,
    /// Packets lost in each direction, each for itself
    #[arg(long, value_name = "PERCENT")]
    loss: Option<f64>,
    /// Packets lost in each direction, several in a row
    #[arg(long, value_name = "PERCENT")]
    burst_loss: Option<f64>,
    /// How many are lost in a row, on average
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    burst_length: f64,
    /// Packets that overtake
    #[arg(long, value_name = "PERCENT")]
    reorder: Option<f64>,
    /// Packets that arrive twice
    #[arg(long, value_name = "PERCENT")]
    duplicate: Option<f64>,
    /// Packets with one bit flipped
    #[arg(long, value_name = "PERCENT")]
    corrupt: Option<f64>,
    /// Mbit/s in each direction [default: 100]
    #[arg(long, value_name = "MBIT")]
    rate: Option<f64>,
    /// How long a packet waits for its turn at most [default: 100]
    #[arg(long, value_name = "MS")]
    queue: Option<f64>,
    /// Seconds from the command on in which packets vanish, FROM-UNTIL, perhaps with :up or :down
    #[arg(long, value_name = "TIMES")]
    cut: Vec<Cut>,
    /// Of the dice of the link
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Congestion control of both kernels and of the source's records
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: String,
}

/// A link that is measured.
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) conditions: Conditions,
    /// What the next day of a server of 4 GiB, 1 % of it changed, may take.
    pub(super) bar_seconds: Option<f64>,
}

impl Wan {
    pub(super) fn congestion(&self) -> &str {
        &self.congestion
    }

    /// The link that was described, or those that are measured without a word.
    pub(super) fn profiles(&self) -> Vec<Profile> {
        if self.is_described() {
            return vec![self.profile("as told", self.described())];
        }
        if self.common.size == Size::Small {
            return vec![self.profile("all at once", foul())];
        }
        let far = Conditions { delay: ms(50.0), ..Conditions::default() };
        let bars = [
            ("100 ms", 2.5, far.clone()),
            ("300 ms", 4.0, Conditions { delay: ms(150.0), ..far.clone() }),
            ("100 ms, 1 % lost", 10.0, Conditions { loss: 0.01, ..far }),
        ];
        bars.map(|(name, bar, conditions)| Profile {
            bar_seconds: Some(bar),
            ..self.profile(name, conditions)
        })
        .into()
    }

    fn is_described(&self) -> bool {
        let told = [
            self.rtt,
            self.jitter,
            self.loss,
            self.burst_loss,
            self.reorder,
            self.duplicate,
            self.corrupt,
            self.rate,
            self.queue,
        ];
        told.iter().any(Option::is_some) || !self.cut.is_empty()
    }

    fn described(&self) -> Conditions {
        let share = |percent: Option<f64>| percent.unwrap_or(0.0).clamp(0.0, 100.0) / 100.0;
        Conditions {
            delay: ms(self.rtt.unwrap_or(0.0) / 2.0),
            jitter: ms(self.jitter.unwrap_or(0.0)),
            loss: share(self.loss),
            burst: Burst { share: share(self.burst_loss).min(0.99), length: self.burst_length },
            reorder: share(self.reorder),
            duplicate: share(self.duplicate),
            corrupt: share(self.corrupt),
            cuts: self.cut.clone(),
            ..Conditions::default()
        }
    }

    /// With what is the same for every link.
    fn profile(&self, name: &str, conditions: Conditions) -> Profile {
        let rate = (self.rate.unwrap_or(RATE_MBIT) * 1e6) as u64;
        let queue = ms(self.queue.unwrap_or(QUEUE_MS));
        let conditions = Conditions { rate, queue, seed: self.seed, ..conditions };
        Profile { name: name.to_owned(), conditions, bar_seconds: None }
    }
}

/// A little of everything bad, which a small size has to live through.
fn foul() -> Conditions {
    Conditions {
        delay: ms(10.0),
        jitter: ms(2.0),
        loss: 0.02,
        burst: Burst { share: 0.01, length: 4.0 },
        reorder: 0.03,
        duplicate: 0.02,
        corrupt: 0.01,
        ..Conditions::default()
    }
}

fn ms(n: f64) -> Duration {
    Duration::try_from_secs_f64(n / 1_000.0).unwrap_or_default()
}
