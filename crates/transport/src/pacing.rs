//! Pacing: over a distance, a connection's packets leave spread over the round trip.
//!
//! A kernel sends what a window allows the moment that it may. Over a distance that is a burst of a
//! whole round trip's worth, which queues before the narrowest link; the delay that grows with it
//! is taken for a link that is full (HyStart, RFC 9406), and the window stops doubling long before
//! it is.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::setsockopt_impl;
use nix::sys::socket::SetSockOpt;
use nix::sys::socket::sockopt::SetStruct;

/// From this distance on. Nearer, a timer for each burst costs more than the burst.
const FAR: Duration = Duration::from_millis(5);
/// Bytes a second that the kernel's own estimate is held below. Linux paces a connection whose
/// highest pace was ever set to something; what was not set is all ones. No link is as fast.
const NO_LIMIT: u64 = u64::MAX - 1;

/// `SO_MAX_PACING_RATE` of socket(7), in bytes a second. A kernel that takes 32 bits reads the
/// lower half, which is 4 GB/s and no limit either.
#[derive(Clone, Copy, Debug)]
struct MaxPacingRate;

setsockopt_impl!(
    MaxPacingRate,
    libc::SOL_SOCKET,
    libc::SO_MAX_PACING_RATE,
    u64,
    SetStruct<'_, u64>
);

/// Paces a connection over this distance. A kernel that cannot costs speed and nothing else.
pub(crate) fn pace(socket: &impl AsFd, round_trip: Duration) {
    if round_trip >= FAR
        && let Err(cause) = MaxPacingRate.set(socket, &NO_LIMIT)
    {
        tracing::debug!(%cause, "a connection is not paced");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::getsockopt_impl;
    use nix::sys::socket::GetSockOpt;
    use nix::sys::socket::sockopt::GetStruct;

    use super::*;

    getsockopt_impl!(
        MaxPacingRate,
        libc::SOL_SOCKET,
        libc::SO_MAX_PACING_RATE,
        u64,
        GetStruct<u64>
    );

    #[test]
    fn a_connection_over_a_distance_is_paced_and_a_near_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (millis, expected) in [(0, u64::MAX), (4, u64::MAX), (5, NO_LIMIT), (300, NO_LIMIT)] {
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            pace(&socket, Duration::from_millis(millis));
            assert_eq!(MaxPacingRate.get(&socket), Ok(expected), "{millis} ms");
        }
    }
}
