//! The hash that names records: BLAKE3-256.
//!
//! In tests of this crate a thread may switch to a hash of 16 bits, so that collisions happen and
//! their handling can be shown (B-12). Nothing of that exists in a build that ships.

use offsite_model::Key;

#[cfg(not(test))]
pub(crate) fn key_of(record: &[u8]) -> Key {
    Key::of(record)
}

#[cfg(test)]
thread_local! {
    pub(crate) static IS_STUB: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
pub(crate) fn key_of(record: &[u8]) -> Key {
    let key = Key::of(record);
    if !IS_STUB.get() {
        return key;
    }
    let mut short = [0; 32];
    short[..2].copy_from_slice(&key.as_bytes()[..2]);
    Key::from_bytes(short)
}
