//! Word to the service manager: ready to serve, about to stop. Silent where there is none.

use std::io;

use sd_notify::NotifyState;

/// Says that the listeners answer. What depends on this service may start now.
///
/// # Errors
///
/// The manager's socket is named in the environment and cannot be reached. Serving goes on without.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// Says that the service drains and will end by itself.
///
/// # Errors
///
/// As [`ready`].
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}
