//! Who this target is: its key, its authority and its certificate, each a file of mode 0600 in a
//! directory of mode 0700.
//!
//! The target keeps one key for life, since sources pin it: the directory `keys` belongs in the
//! operator's backup. The certificate over the key is made anew when it comes to its end.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use offsite_daemon::{PrivateDirectory, process};
use offsite_model::{Clock, CoreId, FileSystem, Luck};
use offsite_pki::{Authority, Certificate, PrivateKey, Validity};
use offsite_target_core::Identity;

const DIRECTORY: &str = "keys";
const KEY: &str = "target.key.pem";
const AUTHORITY: &str = "authority.pem";
const CERTIFICATE: &str = "target.certificate.pem";
/// The longest of these files.
const BYTES_MAX: u64 = 64 << 10;
/// How long the target's own certificate lasts.
const CERTIFICATE_DAYS: u32 = 400;

/// The identity with the key that it stands on.
pub(crate) struct Keys {
    /// The key of the listeners.
    pub(crate) key: PrivateKey,
    /// The rest.
    pub(crate) identity: Identity,
}

/// Makes them for a new target.
pub(crate) fn create(
    files: &Arc<dyn FileSystem>,
    data: &Path,
    name: &str,
    clock: &dyn Clock,
    luck: &dyn Luck,
) -> anyhow::Result<Keys> {
    let path = data.join(DIRECTORY);
    let private = PrivateDirectory::create(Arc::clone(files), &path, process::owner())?;
    let authority =
        Authority::create(name, clock.now(), luck).context("cannot make the authority")?;
    let key = PrivateKey::generate().context("cannot make the target's key")?;
    let core = CoreId::random(luck);
    let certificate = certify(&authority, &key, core, clock, luck)?;
    private.create_file(KEY, key.to_pem().as_bytes())?;
    private.create_file(AUTHORITY, authority.to_pem().as_bytes())?;
    private.create_file(CERTIFICATE, certificate.to_pem().as_bytes())?;
    Ok(Keys { key, identity: Identity { core, authority, certificate } })
}

/// Opens them. Something looser than it was made, or of another owner, is no start.
pub(crate) fn open(
    files: &Arc<dyn FileSystem>,
    data: &Path,
    clock: &dyn Clock,
    luck: &dyn Luck,
) -> anyhow::Result<Keys> {
    let path = data.join(DIRECTORY);
    let private = PrivateDirectory::open(Arc::clone(files), &path, process::owner())?;
    let text = |name: &str| -> anyhow::Result<_> {
        let bytes = private.read_file(name, BYTES_MAX)?;
        let text = std::str::from_utf8(&bytes).map(zeroize_text);
        text.map_err(|_| anyhow!("{} is no text", private.path_of(name).display()))
    };
    let shown = |name: &str| private.path_of(name).display().to_string();
    let key = PrivateKey::from_pem(text(KEY)?.expose()).with_context(|| shown(KEY))?;
    let authority =
        Authority::from_pem(text(AUTHORITY)?.expose()).with_context(|| shown(AUTHORITY))?;
    let mut certificate =
        Certificate::from_pem(text(CERTIFICATE)?.expose()).with_context(|| shown(CERTIFICATE))?;
    let core =
        certificate.subject().ok_or_else(|| anyhow!("{} names no core", shown(CERTIFICATE)))?;
    if certificate.spki() != key.spki() {
        return Err(anyhow!("{} and {} do not belong together", shown(KEY), shown(CERTIFICATE)));
    }
    if offsite_pki::renewal::is_due(&certificate, clock.now()) {
        certificate = certify(&authority, &key, core, clock, luck)?;
        private.replace_file(CERTIFICATE, certificate.to_pem().as_bytes())?;
        tracing::info!("the target's certificate was made anew over the same key");
    }
    Ok(Keys { key, identity: Identity { core, authority, certificate } })
}

fn zeroize_text(text: &str) -> offsite_daemon::Secret<String> {
    offsite_daemon::Secret::new(text.to_owned())
}

fn certify(
    authority: &Authority,
    key: &PrivateKey,
    core: CoreId,
    clock: &dyn Clock,
    luck: &dyn Luck,
) -> anyhow::Result<Certificate> {
    let validity = Validity::days(clock.now(), CERTIFICATE_DAYS)?;
    let names = ["localhost", "127.0.0.1", "::1"];
    authority
        .issue_server(key, core, &names, validity, luck)
        .context("cannot certify the target's key")
}
