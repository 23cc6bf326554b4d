//! From where sources call: a key that is used from an address it never came from is told to a
//! person, and nothing else follows from it (C-11). A key that was copied is seen so.
//!
//! **Absent:** addresses of newcomers and operators.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use offsite_model::CoreId;
use offsite_store::catalog::{Order, RowsMut, Table, TypedRows as _, TypedRowsMut as _, Value};
use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::PairedPeer;

/// Addresses by source.
const ADDRESSES: Table = Table::new("source_addresses");
/// Addresses that are remembered of one source; what comes after them is told each time the daemon
/// was started.
const PER_SOURCE_MAX: usize = 256;
/// Addresses that are remembered in memory, of all sources.
const IN_MEMORY_MAX: usize = 16_384;

type Name = (CoreId, [u8; 16]);

/// Addresses that need no look into the catalog.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<BTreeSet<Name>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AddressRow {
    first_micros: i64,
}

impl Value for AddressRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 32;
}

fn bytes_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl Addresses {
    /// Whether this address needs a look into the catalog; it does not the next time.
    pub(crate) fn is_unknown(&self, source: CoreId, address: IpAddr) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (source, bytes_of(address));
        if known.len() >= IN_MEMORY_MAX && !known.contains(&name) {
            known.clear();
        }
        known.insert(name)
    }
}

/// Keeps from where a source calls, and tells what is new. The first of all is no news.
///
/// # Errors
/// The catalog's.
pub(crate) fn keep(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    peer: &PairedPeer,
    address: IpAddr,
) -> Result<(), Failure> {
    let prefix = peer.source().to_bytes();
    let key = [prefix, bytes_of(address)].concat();
    let before = rows.scan_prefix(ADDRESSES, &prefix, None, Order::Ascending, PER_SOURCE_MAX)?;
    if before.iter().any(|(known, _)| *known == key) {
        return Ok(());
    }
    if before.len() < PER_SOURCE_MAX {
        let row = AddressRow { first_micros: deed.at.as_micros() };
        rows.put_value(ADDRESSES, &key, &row)?;
    }
    if before.is_empty() {
        return Ok(());
    }
    tracing::error!(peer = %peer.source(), %address,
        "a source's key is used from an address that it never came from");
    let facts = [("source", peer.source().to_string()), ("address", address.to_string())];
    Ok(deed.record(rows, Event::AddressFirstSeen, Some(peer.tenant()), &facts)?)
}
