//! key, certificate and pins are put in place in one step, whatever happens meanwhile.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::PrivateDirectory;
use offsite_exchange::pairing::PublicKey;
use offsite_exchange::pairing::source::Artifacts;
use offsite_model::{Clock, CoreId};
use offsite_pki::{Authority, PrivateKey, Validity};
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};

use crate::install::Keys;

const N_CRASHES: u64 = 2_000;

fn keys(disk: &Disk) -> Keys {
    let files = disk.files();
    let directory = PrivateDirectory::open(Arc::clone(&files), Path::new("/keys"), 0).unwrap();
    Keys::new(files, Arc::new(directory))
}

/// What a target would have sent for this key.
fn artifacts(key: &PublicKey, clock: &SimClock) -> Artifacts {
    let (luck, now) = (SeededLuck::new(9), clock.now());
    let core = CoreId::from_bytes([9; 16]);
    let authority = Authority::create("fake", now, &luck).unwrap();
    let own = crate::install::spki(key).unwrap();
    let certificate = authority.issue_client(&own, core, Validity::usual(now), &luck).unwrap();
    let server = PrivateKey::generate().unwrap();
    let target = authority.issue_server(&server, core, &[], Validity::usual(now), &luck).unwrap();
    Artifacts {
        certificate_sha256: certificate.sha256(),
        target_certificate_sha256: target.sha256(),
        certificate_key: PublicKey::from_der(certificate.spki().as_der()),
        target_key: PublicKey::from_der(target.spki().as_der()),
        is_signed_by_authority: true,
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        certificate_pem: certificate.to_pem(),
        target_pem: target.to_pem() + &authority.certificate().to_pem(),
    }
}

/// The old state is the lone key; the complete one is the whole bundle. Nothing else may be found.
fn is_complete(keys: &Keys, disk: &Disk, key: &PublicKey, seed: u64) -> bool {
    let names = disk.files().list(Path::new("/keys")).unwrap();
    let private = keys.private(key);
    assert!(private.is_ok(), "seed {seed}: the key is gone: {names:?}");
    let has_bundle = names.iter().any(|name| name.ends_with(".pem"));
    match keys.identity(key) {
        Ok((private, certificate)) => {
            assert!(has_bundle, "seed {seed}");
            assert_eq!(private.spki(), certificate.spki(), "seed {seed}");
            true
        }
        Err(trouble) => {
            assert!(!has_bundle, "seed {seed}: half a state: {names:?}: {trouble}");
            false
        }
    }
}

#[test]
fn a_12_a_crash_leaves_the_old_state_or_the_complete_one() {
    let clock = SimClock::new();
    let start = Disk::new(1);
    PrivateDirectory::create(start.files(), Path::new("/keys"), 0).unwrap();
    let key = keys(&start).make().unwrap();
    let artifacts = artifacts(&key, &clock);
    let install = |keys: &Keys| keys.install(&key, &artifacts.target_key, &artifacts, clock.now());
    let whole = start.fork(2);
    let before = whole.n_changes();
    install(&keys(&whole)).unwrap();
    let n_steps = whole.n_changes() - before;
    assert!(
        n_steps >= 5,
        "a file made, written, synced, renamed and its directory synced: {n_steps}"
    );

    let (mut n_old, mut n_complete) = (0, 0);
    for seed in 0..N_CRASHES {
        // Half of them install over what is in place already.
        let disk = if seed % 2 == 0 { start.fork(seed) } else { whole.fork(seed) };
        let running = keys(&disk);
        disk.cut_after(seed / 2 % (n_steps + 1));
        let told = install(&running).is_ok();
        disk.power_cut();
        let after = keys(&disk);
        let complete = is_complete(&after, &disk, &key, seed);
        assert!(complete || !told, "seed {seed}: success was told and is gone");
        assert!(complete || seed % 2 == 0, "seed {seed}: what was in place is gone");
        if complete {
            n_complete += 1
        } else {
            n_old += 1
        }
        // The next start finishes what was begun, and leaves one file.
        install(&after).unwrap();
        after.sweep([&key]).unwrap();
        assert!(is_complete(&after, &disk, &key, seed));
        assert_eq!(disk.files().list(Path::new("/keys")).unwrap().len(), 1, "seed {seed}");
    }
    assert!(
        n_old > 100 && n_complete > 100,
        "both outcomes are met: {n_old} old, {n_complete} complete"
    );
}

#[test]
fn a_file_that_holds_another_key_than_its_name_says_is_refused() {
    let disk = Disk::new(1);
    PrivateDirectory::create(disk.files(), Path::new("/keys"), 0).unwrap();
    let keys = keys(&disk);
    let (one, other) = (keys.make().unwrap(), keys.make().unwrap());
    let path = |key: &PublicKey| {
        let name = format!("/keys/{}.key", crate::install::thumbprint(key).unwrap());
        std::path::PathBuf::from(name)
    };
    disk.swap(&path(&one), &path(&other));
    let trouble = keys.private(&one).err().unwrap();
    assert!(trouble.message.contains("another key"), "{trouble}");
}

#[test]
fn what_belongs_to_nothing_is_swept_away() {
    let disk = Disk::new(1);
    PrivateDirectory::create(disk.files(), Path::new("/keys"), 0).unwrap();
    let keys = keys(&disk);
    let (one, other) = (keys.make().unwrap(), keys.make().unwrap());
    keys.sweep([&one]).unwrap();
    assert!(keys.private(&one).is_ok() && keys.private(&other).is_err());
}
