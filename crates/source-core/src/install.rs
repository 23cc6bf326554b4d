//! The keys of this source on disk, and how a pairing is put in place: all or nothing.
//!
//! ```text
//! keys/<thumbprint>.key    a private key that is waiting for its certificate
//! keys/<thumbprint>.pem    key, certificate and pins in ONE file: a pairing in place
//! ```
//!
//! A file is named after the public half of its key, so a name says which key a file must hold and
//! reading checks it. Installing is one rename (`write_atomically`): a crash leaves the old state
//! or the complete one, never a certificate without its key (A-12). The lone key goes only after
//! the whole file lies in place.
//!
//! **Absent:** which key is used for what; the machine of the pairing decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use offsite_daemon::private::{PrivateDirectory, PrivateError};
use offsite_exchange::pairing::PublicKey;
use offsite_exchange::pairing::source::Artifacts;
use offsite_model::{FileSystem, Timestamp};
use offsite_pki::bundle::{self, Bundle, Clocks};
use offsite_pki::{Certificate, PrivateKey, Spki, Thumbprint};

use crate::error::{Blame, Trouble};
use offsite_proto::error::ErrorCode;

/// Bytes of a file of keys.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The directory of keys.
#[derive(Clone)]
pub struct Keys {
    files: Arc<dyn FileSystem>,
    directory: Arc<PrivateDirectory>,
}

impl Keys {
    /// The keys in this directory, which was found to be private.
    #[must_use]
    pub const fn new(files: Arc<dyn FileSystem>, directory: Arc<PrivateDirectory>) -> Self {
        Self { files, directory }
    }

    /// Makes a key and keeps it durably before anybody hears of its public half.
    ///
    /// # Errors
    /// The disk's, or no randomness.
    pub fn make(&self) -> Result<PublicKey, Trouble> {
        let key = PrivateKey::generate()
            .map_err(|error| Trouble::us(format!("cannot make a key: {error}")))?;
        self.directory.create_file(&waiting(key.spki().thumbprint()), key.to_pem().as_bytes())?;
        Ok(PublicKey::from_der(key.spki().as_der()))
    }

    /// The private key of this public one, whether it waits or is in place.
    ///
    /// # Errors
    /// The disk's; a file that holds another key than its name says.
    pub fn private(&self, key: &PublicKey) -> Result<PrivateKey, Trouble> {
        let thumbprint = thumbprint(key)?;
        let private = match self.directory.read_file(&waiting(thumbprint), FILE_BYTES_MAX) {
            Ok(bytes) => PrivateKey::from_pem(text(&bytes)?)
                .map_err(|error| damaged(thumbprint, &error.to_string()))?,
            Err(error) if error.is_absent() => {
                let bundle = self.installed(key)?;
                return PrivateKey::from_pem(&bundle.key().to_pem())
                    .map_err(|error| damaged(thumbprint, &error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        if private.spki().thumbprint() != thumbprint {
            return Err(damaged(thumbprint, "it holds another key"));
        }
        Ok(private)
    }

    /// What is in place for this key.
    ///
    /// # Errors
    /// The disk's; a file that holds another key than its name says.
    pub fn installed(&self, key: &PublicKey) -> Result<Bundle, Trouble> {
        let thumbprint = thumbprint(key)?;
        let bytes = self.directory.read_file(&in_place(thumbprint), FILE_BYTES_MAX)?;
        let bundle = Bundle::from_pem(text(&bytes)?)
            .map_err(|error| damaged(thumbprint, &error.to_string()))?;
        if bundle.key().spki().thumbprint() != thumbprint {
            return Err(damaged(thumbprint, "it holds another key"));
        }
        Ok(bundle)
    }

    /// Key and certificate in place for this key: what is shown to the target.
    ///
    /// # Errors
    /// As [`Keys::installed`].
    pub fn identity(&self, key: &PublicKey) -> Result<(PrivateKey, Certificate), Trouble> {
        let certificate = self.installed(key)?.certificate().clone();
        Ok((self.private(key)?, certificate))
    }

    /// Verifies what was downloaded once more, then puts key, certificate and pins in place in one
    /// step. Doing it again does no harm.
    ///
    /// # Errors
    /// The disk's; certificates that do not fit, which the machine has judged before.
    pub fn install(
        &self,
        key: &PublicKey,
        pinned: &PublicKey,
        artifacts: &Artifacts,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let thumbprint = thumbprint(key)?;
        let downloaded = bundle::Artifacts {
            certificate: &artifacts.certificate_pem,
            target: &artifacts.target_pem,
            certificate_sha256: artifacts.certificate_sha256,
            target_sha256: artifacts.target_certificate_sha256,
        };
        // The clocks were compared a moment ago by the machine, with the target's own.
        let clocks = Clocks { now, target_now: None };
        let pin = spki(pinned)?.thumbprint();
        let bundle = bundle::verify(&self.private(key)?, &downloaded, pin, clocks)
            .map_err(|error| Trouble::peer(ErrorCode::ContentInvalid, error.to_string(), ""))?;
        self.directory.replace_file(&in_place(thumbprint), bundle.to_pem().as_bytes())?;
        self.remove(&waiting(thumbprint))
    }

    /// Removes a key and what was in place for it.
    ///
    /// # Errors
    /// The disk's.
    pub fn forget(&self, key: &PublicKey) -> Result<(), Trouble> {
        let thumbprint = thumbprint(key)?;
        self.remove(&in_place(thumbprint))?;
        self.remove(&waiting(thumbprint))
    }

    /// Removes what belongs to none of these keys: what a crash left between two steps.
    ///
    /// # Errors
    /// The disk's.
    pub fn sweep<'a>(
        &self,
        in_use: impl IntoIterator<Item = &'a PublicKey>,
    ) -> Result<(), Trouble> {
        let in_use: BTreeSet<_> = in_use
            .into_iter()
            .filter_map(|key| thumbprint(key).ok())
            .map(|key| key.to_string())
            .collect();
        let names = self
            .files
            .list(&self.directory.path_of(""))
            .map_err(|error| Trouble::disk("list the keys of this source", &error))?;
        for name in names {
            let stem = name.strip_suffix(".key").or(name.strip_suffix(".pem"));
            if !stem.is_some_and(|stem| in_use.contains(stem)) {
                tracing::info!(file = name, "removing a key that belongs to nothing");
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Trouble> {
        match self.directory.remove_file(name) {
            Err(error) if !error.is_absent() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// SHA-256 of a public key.
///
/// # Errors
/// Bytes that are no public key; ours always are.
pub fn thumbprint(key: &PublicKey) -> Result<Thumbprint, Trouble> {
    spki(key).map(|spki| spki.thumbprint())
}

/// The parsed form of a public key.
///
/// # Errors
/// Bytes that are no public key; ours always are.
pub fn spki(key: &PublicKey) -> Result<Spki, Trouble> {
    Spki::from_der(key.as_der())
        .map_err(|error| Trouble::us(format!("a remembered public key does not parse: {error}")))
}

fn waiting(thumbprint: Thumbprint) -> String {
    format!("{thumbprint}.key")
}

fn in_place(thumbprint: Thumbprint) -> String {
    format!("{thumbprint}.pem")
}

fn text(bytes: &[u8]) -> Result<&str, Trouble> {
    std::str::from_utf8(bytes).map_err(|_| Trouble {
        blame: Blame::Disk,
        code: ErrorCode::Internal,
        message: "a file of keys is not text".to_owned(),
        hint: "put the file back from a copy, or give the pairing up: offsite-source pair reset"
            .to_owned(),
    })
}

fn damaged(thumbprint: Thumbprint, why: &str) -> Trouble {
    Trouble {
        blame: Blame::Disk,
        code: ErrorCode::Internal,
        message: format!("the file of key {thumbprint} cannot be used: {why}"),
        hint: "put the file back from a copy, or give the pairing up: offsite-source pair reset"
            .to_owned(),
    }
}

impl From<PrivateError> for Trouble {
    fn from(error: PrivateError) -> Self {
        Self {
            blame: Blame::Disk,
            code: ErrorCode::Internal,
            message: error.to_string(),
            hint: "look at the directory keys in the data directory, then start the daemon again"
                .to_owned(),
        }
    }
}
