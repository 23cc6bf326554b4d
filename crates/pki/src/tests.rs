//! Tests through the public interface, with one scene: a target with its authority, and sources.

mod bundles;
mod handshake;
mod mint;
mod profile;
mod requests;
mod standing;

use std::sync::{Arc, Mutex};

use offsite_model::{CoreId, Luck, Timestamp};

use crate::{Authority, Certificate, PrivateKey, Validity};

/// The moment at which the scenes play: 2026-11-01T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_793_491_200);

/// A seeded source of luck (splitmix64); the seed is printed when a test fails.
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(Mutex::new(seed))
    }
}

impl Luck for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = *state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A target: authority, own key, own certificate.
pub(crate) struct Target {
    pub(crate) luck: Seeded,
    pub(crate) authority: Authority,
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
}

impl Target {
    pub(crate) fn new(seed: u64) -> Self {
        let luck = Seeded::new(seed);
        let authority = Authority::create("Target of the tests", NOW, &luck).unwrap();
        let key = PrivateKey::generate().unwrap();
        let id = CoreId::random(&luck);
        let validity = Validity::usual(NOW);
        let names = ["target.example", "192.0.2.7"];
        let certificate = authority.issue_server(&key, id, &names, validity, &luck).unwrap();
        Self { luck, authority, key, certificate }
    }

    pub(crate) fn identity(&self) -> Arc<crate::tls::ServerIdentity> {
        crate::tls::ServerIdentity::new(&self.key, &self.certificate).unwrap()
    }

    /// A source with its key and the certificate that this target issued.
    pub(crate) fn source(&self) -> (PrivateKey, Certificate) {
        let key = PrivateKey::generate().unwrap();
        let id = CoreId::random(&self.luck);
        let validity = Validity::usual(NOW);
        let certificate =
            self.authority.issue_client(key.spki(), id, validity, &self.luck).unwrap();
        (key, certificate)
    }
}
