//! Versions: of the protocol, which the cores negotiate, and of the product, which people read.

use serde::{Deserialize, Serialize};

/// A version of the protocol. One variant per change; its description is the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum ProtocolVersion {
    /// The first one: pairing by request, replication by records.
    V1 = 1,
}

impl ProtocolVersion {
    /// The newest version this build speaks.
    pub const NEWEST: Self = Self::V1;
    /// The oldest version this build speaks.
    pub const OLDEST: Self = Self::V1;
    /// The header that carries the number of the version; absent means 1.
    pub const HEADER: &'static str = "offsite-protocol";

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The version with this number, if this build speaks it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            _ => None,
        }
    }

    /// The newest version that both this build and a peer with this range speak.
    #[must_use]
    pub fn negotiate(peer_min: u32, peer_max: u32) -> Option<Self> {
        let newest = Self::NEWEST.number().min(peer_max);
        let oldest = Self::OLDEST.number().max(peer_min);
        (oldest..=newest).rev().find_map(Self::from_number)
    }
}

/// A version of the product: `Major`, `Minor`, `Build`, `Revision` in the published bodies, written
/// in camelCase and read in both spellings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductVersion {
    /// Incompatible changes.
    #[serde(alias = "Major", default)]
    pub major: u32,
    /// Additions.
    #[serde(alias = "Minor", default)]
    pub minor: u32,
    /// Corrections.
    #[serde(alias = "Build", default)]
    pub build: u32,
    /// Always 0 in our own versions.
    #[serde(alias = "Revision", default)]
    pub revision: u32,
}

impl ProductVersion {
    /// The version of a package, from its `CARGO_PKG_VERSION`; parts that are no numbers count as
    /// 0.
    #[must_use]
    pub fn from_package(text: &str) -> Self {
        let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Self { major: next(), minor: next(), build: next(), revision: 0 }
    }
}

impl std::fmt::Display for ProductVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_version_is_found_or_refused() {
        assert_eq!(ProtocolVersion::negotiate(1, 7), Some(ProtocolVersion::V1));
        assert_eq!(ProtocolVersion::negotiate(0, 1), Some(ProtocolVersion::V1));
        assert_eq!(ProtocolVersion::negotiate(2, 7), None);
        assert_eq!(ProtocolVersion::negotiate(5, 1), None);
    }
}
