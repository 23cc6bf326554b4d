//! The congestion control of a connection that carries records.
//!
//! It decides what a link with loss is worth: an algorithm that takes every lost packet for a full
//! link (cubic) carries a few Mbit/s over a distance where one that measures the link (bbr) fills
//! it.

use std::os::fd::AsFd;

use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{AddressFamily, SocketType, socket};

/// Names of the kernel's algorithms, at most (TCP_CA_NAME_MAX, with its final zero).
const NAME_BYTES_MAX: usize = 15;
/// What is taken where nothing was said and the kernel offers it.
const PREFERRED: &str = "bbr";

/// Which algorithm a connection uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// bbr where the kernel offers it, else the system's own.
    #[default]
    Preferred,
    /// This one.
    Named(String),
}

/// An algorithm that this kernel does not offer to this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this kernel offers no congestion control {name:?} to this program; \
     /proc/sys/net/ipv4/tcp_allowed_congestion_control lists those that it offers"
)]
pub struct NotOffered {
    name: String,
}

impl Congestion {
    /// The algorithm of this name, tried on a socket that goes nowhere.
    ///
    /// # Errors
    /// [`NotOffered`].
    pub fn named(name: &str) -> Result<Self, NotOffered> {
        let is_plain = name.len() <= NAME_BYTES_MAX
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let tried = socket(AddressFamily::INET, SocketType::STREAM, None)
            .and_then(|socket| set_tcp_congestion(&socket, name));
        if is_plain && tried.is_ok() {
            return Ok(Self::Named(name.to_owned()));
        }
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        Err(NotOffered { name: shown })
    }

    /// Sets it. What was tried before and is refused now costs speed and nothing else.
    pub(crate) fn set(&self, socket: impl AsFd) {
        let (name, is_wished) = match self {
            Self::Preferred => (PREFERRED, false),
            Self::Named(name) => (name.as_str(), true),
        };
        if let Err(cause) = set_tcp_congestion(socket, name)
            && is_wished
        {
            tracing::warn!(%cause, name, "a connection keeps the system's congestion control");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_offers_is_taken_and_nothing_else() {
        // Every kernel has reno; it cannot be left out.
        assert_eq!(Congestion::named("reno"), Ok(Congestion::Named("reno".to_owned())));
        for name in ["", "no_such_thing", "a name\nof two lines", &"x".repeat(300)] {
            let refused = Congestion::named(name).unwrap_err();
            assert!(refused.to_string().len() < 200, "{refused}");
        }
    }
}
