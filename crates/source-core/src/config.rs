//! The source's settings as plain data, no default hidden.
//!
//! Keys and shipped values are those of `docs/configuration.md`; the program reads them from `DATA/offsite.toml` and
//! hands them down. What this build does not do yet has no key here.
//!
//! **Absent:** reading files, units as text.

use offsite_model::Span;

use crate::poll::Pace;

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `cacheLifetime`: the time between two calls of row 45.
    pub cache_lifetime: Span,
    /// `maxRequestRetries`: tries of one call that a person waits for.
    pub request_retries_max: u32,
    /// `poll_first`, `poll_longest`: the pauses between polls of an undecided request.
    pub poll: Pace,
    /// `connect_timeout`: how long TCP and TLS may take.
    pub connect_timeout: Span,
    /// `request_timeout`: how long one call may take.
    pub request_timeout: Span,
}

impl Settings {
    /// The values the product is shipped with.
    #[must_use]
    pub const fn shipped() -> Self {
        Self {
            cache_lifetime: Span::from_secs(60),
            request_retries_max: 5,
            poll: Pace { first: Span::from_secs(5), longest: Span::from_secs(60) },
            connect_timeout: Span::from_secs(10),
            request_timeout: Span::from_secs(30),
        }
    }
}
