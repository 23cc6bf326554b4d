//! When a certificate is to be renewed: after two thirds of its life, and a little later.
//!
//! The little is drawn from the certificate itself. So a source asks at the same moment before and
//! after a restart, with nothing to remember, and a thousand sources paired in one hour do not all
//! come back in one hour.
//!
//! **Absent:** the renewal, and the overlap of two keys; those belong to the cores.

use offsite_model::{Span, Timestamp};

use crate::certificate::Certificate;

/// The spread is a life divided by this: below four days of ninety.
const SPREAD_DIVISOR: u64 = 24;

/// From when on this certificate should be renewed.
#[must_use]
pub fn due(certificate: &Certificate) -> Timestamp {
    let begin = certificate.not_before();
    let life = certificate.not_after().since(begin);
    let spread = life.divided_by(SPREAD_DIVISOR).as_micros();
    let lot = certificate.sha256().iter().take(8).fold(0, |lot, &byte| lot << 8 | u64::from(byte));
    let late = Span::from_micros(lot.checked_rem(spread).unwrap_or(0));
    begin + life.times(2).divided_by(3) + late
}

/// Whether this certificate should be renewed at this moment.
#[must_use]
pub fn is_due(certificate: &Certificate, now: Timestamp) -> bool {
    now >= due(certificate)
}
