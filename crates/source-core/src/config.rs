//! The source's settings as plain data, no default hidden.
//!
//! The program reads them from `DATA/offsite.toml` and hands them down. What this build does not do
//! yet has no key.
//!
//! **Absent:** reading files, units as text (the program), rules that nobody may change
//! (`exchange`).

use offsite_exchange::pairing::Rules;
use offsite_model::Span;
use offsite_transport::Congestion;

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `cacheLifetime`: the time between two calls of row 45.
    pub cache_lifetime: Span,
    /// `poll_first`: the shortest pause between polls of an undecided request, and of every
    /// back-off.
    pub poll_first: Span,
    /// `poll_longest`: the longest of these pauses.
    pub poll_longest: Span,
    /// `connect_timeout`: how long connecting may take, and how long the handshake.
    pub connect_timeout: Span,
    /// `request_timeout`: how long one call may take.
    pub request_timeout: Span,
    /// `tcp_congestion`: the congestion control of connections that carry records.
    pub congestion: Congestion,
    /// `maxTransferSpeed`: bytes of records per second to and from each target; 0 is no limit.
    pub transfer_bytes_per_sec: u64,
}

impl Settings {
    /// The values the product is shipped with.
    #[must_use]
    pub const fn shipped() -> Self {
        Self {
            cache_lifetime: Span::from_secs(60),
            poll_first: Span::from_secs(5),
            poll_longest: Span::from_secs(60),
            connect_timeout: Span::from_secs(10),
            request_timeout: Span::from_secs(30),
            congestion: Congestion::Preferred,
            transfer_bytes_per_sec: 0,
        }
    }

    /// The rules of pairings with these settings.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        Rules {
            poll_pause_min: self.poll_first,
            poll_pause_max: self.poll_longest,
            sync_pause: self.cache_lifetime,
            ..Rules::shipped()
        }
    }
}
