//! What a source checks before it installs a pairing, and what it keeps.

use std::collections::BTreeSet;

use offsite_model::{CoreId, Luck, Span, Timestamp};

use super::mint::{Mint, stolen_authority, usages};
use super::{NOW, Seeded, Target};
use crate::bundle::{Artifacts, Bundle, BundleError, Clocks, Which, verify};
use crate::{Certificate, PrivateKey, Thumbprint, Validity, renewal};

/// What a source has in hand after an acceptance.
struct Downloaded {
    target: Target,
    key: PrivateKey,
    own: Certificate,
    pinned: Thumbprint,
    own_text: String,
    target_text: String,
}

impl Downloaded {
    fn new(seed: u64) -> Self {
        let target = Target::new(seed);
        let (key, own) = target.source();
        let own_text = own.to_pem();
        let target_text = target.certificate.to_pem() + &target.authority.certificate().to_pem();
        let pinned = target.key.spki().thumbprint();
        Self { target, key, own, pinned, own_text, target_text }
    }

    fn artifacts(&self) -> Artifacts<'_> {
        Artifacts {
            certificate: &self.own_text,
            target: &self.target_text,
            certificate_sha256: self.own.sha256(),
            target_sha256: self.target.certificate.sha256(),
        }
    }

    fn verify(&self, clocks: Clocks) -> Result<Bundle, BundleError> {
        verify(&self.key, &self.artifacts(), self.pinned, clocks)
    }

    /// The same download, with another certificate for this source in it.
    fn with_own(&self, der: &[u8]) -> Result<Bundle, BundleError> {
        let own = Certificate::from_der(der).unwrap();
        let text = own.to_pem();
        let artifacts =
            Artifacts { certificate: &text, certificate_sha256: own.sha256(), ..self.artifacts() };
        verify(&self.key, &artifacts, self.pinned, AGREED)
    }
}

/// Both clocks show the same.
const AGREED: Clocks = Clocks { now: NOW, target_now: Some(NOW) };

fn why(result: Result<Bundle, BundleError>) -> BundleError {
    result.map(drop).unwrap_err()
}

#[test]
fn a_whole_download_becomes_a_bundle_that_survives_its_text() {
    let it = Downloaded::new(2_501);
    let bundle = it.verify(AGREED).unwrap();
    let text = bundle.to_pem();
    let again = Bundle::from_pem(&text).unwrap();
    assert_eq!(again.key().spki(), it.key.spki());
    assert_eq!(again.certificate(), &it.own);
    assert_eq!(again.target(), &it.target.certificate);
    assert_eq!(again.authority(), it.target.authority.certificate());
    assert_eq!(again.pin(), it.pinned);
    assert_eq!(again.target_spki(), it.target.key.spki());
    assert_eq!(again.to_pem(), text);
    assert!(again.client_tls().is_ok());
    assert_eq!(again.into_key().spki(), it.key.spki());
}

#[test]
fn each_broken_rule_is_named() {
    let it = Downloaded::new(2_502);
    let other = Target::new(2_503);
    let artifacts = it.artifacts();
    let check = |artifacts| why(verify(&it.key, &artifacts, it.pinned, AGREED));

    let wrong = Artifacts { certificate_sha256: [7; 32], ..artifacts };
    assert_eq!(check(wrong), BundleError::Sha256(Which::Own));
    let wrong = Artifacts { target_sha256: [7; 32], ..artifacts };
    assert_eq!(check(wrong), BundleError::Sha256(Which::Target));
    let half = Artifacts { certificate: &it.own_text[..200], ..artifacts };
    assert!(matches!(check(half), BundleError::Certificate { which: Which::Own, .. }));
    let one = it.target.certificate.to_pem();
    let alone = Artifacts { target: &one, ..artifacts };
    assert!(matches!(check(alone), BundleError::Certificate { which: Which::Target, .. }));

    let stranger = PrivateKey::generate().unwrap();
    assert_eq!(why(verify(&stranger, &artifacts, it.pinned, AGREED)), BundleError::Key);

    // The right certificates with another authority beside them.
    let text = it.target.certificate.to_pem() + &other.authority.certificate().to_pem();
    let wrong = Artifacts { target: &text, ..artifacts };
    assert_eq!(check(wrong), BundleError::Authority(Which::Own));
    let (id, validity) = (CoreId::random(&it.target.luck), Validity::usual(NOW));
    let alien = other.authority.issue_client(it.key.spki(), id, validity, &it.target.luck).unwrap();
    assert_eq!(why(it.with_own(alien.as_der())), BundleError::Authority(Which::Own));

    let thief = stolen_authority(&it.target);
    let mut parts = Mint::profile(&it.target, it.key.spki(), &id.to_string(), &[1, 2, 3]);
    assert!(it.with_own(&parts.signed_by(&thief)).is_ok());
    parts.extensions[2] = usages(&[1, 2]);
    assert_eq!(why(it.with_own(&parts.signed_by(&thief))), BundleError::Profile);
    let parts = Mint::profile(&it.target, it.key.spki(), "*.example", &[1, 2, 3]);
    assert_eq!(why(it.with_own(&parts.signed_by(&thief))), BundleError::Profile);
}

#[test]
fn a_05_a_target_key_other_than_the_remembered_one_is_refused() {
    let it = Downloaded::new(2_504);
    let other = Target::new(2_505);
    let text = other.certificate.to_pem() + &it.target.authority.certificate().to_pem();
    let artifacts =
        Artifacts { target: &text, target_sha256: other.certificate.sha256(), ..it.artifacts() };
    let refused = why(verify(&it.key, &artifacts, it.pinned, AGREED));
    let found = other.certificate.thumbprint();
    assert_eq!(refused, BundleError::TargetKey { pinned: it.pinned, found });
    // Another certificate over the same key is a renewal and no alarm.
    let renewed = it
        .target
        .authority
        .issue_server(
            &it.target.key,
            CoreId::random(&it.target.luck),
            &[],
            Validity::usual(NOW),
            &it.target.luck,
        )
        .unwrap();
    let text = renewed.to_pem() + &it.target.authority.certificate().to_pem();
    let artifacts = Artifacts { target: &text, target_sha256: renewed.sha256(), ..it.artifacts() };
    assert!(verify(&it.key, &artifacts, it.pinned, AGREED).is_ok());
}

fn shifted(hours: i64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() + hours * 3_600)
}

#[test]
fn a_16_clocks_within_a_day_pair_and_others_hear_by_how_much_they_differ() {
    let it = Downloaded::new(2_506);
    let mut n_steps = 0;
    for hours in (-48..=48).step_by(12) {
        n_steps += 1;
        let clocks = Clocks { now: shifted(hours), target_now: Some(NOW) };
        let result = it.verify(clocks);
        if hours.abs() <= 24 {
            assert!(result.is_ok(), "{hours} hours");
            continue;
        }
        let error = why(result);
        assert_eq!(error, BundleError::Skew { skew_secs: -hours * 3_600 });
        let side = if hours > 0 { "ahead of" } else { "behind" };
        let skew = format!("is {} seconds {side} the target's,", hours.abs() * 3_600);
        assert!(error.to_string().contains(&skew), "{error}");
    }
    assert_eq!(n_steps, 9);
}

#[test]
fn a_16_without_the_targets_clock_only_a_clock_behind_shows() {
    let it = Downloaded::new(2_507);
    let verify = |hours| it.verify(Clocks { now: shifted(hours), target_now: None });
    for hours in [-24, 0, 24, 48, 24 * 80] {
        assert!(verify(hours).is_ok(), "{hours} hours");
    }
    assert_eq!(why(verify(-25)), BundleError::Skew { skew_secs: 25 * 3_600 });
    assert_eq!(why(verify(-48)), BundleError::Skew { skew_secs: 48 * 3_600 });
}

#[test]
fn a_16_a_certificate_out_of_its_time_is_refused_with_the_seconds() {
    let it = Downloaded::new(2_508);
    let verify = |now| it.verify(Clocks { now, target_now: Some(now) });
    let end = it.own.not_after();
    assert!(verify(end + Span::from_hours(23)).is_ok());
    let error = why(verify(end + Span::from_hours(24)));
    assert_eq!(error, BundleError::Time { secs: 86_400, skew_secs: 0 });
    assert!(error.to_string().contains("86400 seconds"), "{error}");
    let early = why(verify(it.own.not_before() - Span::from_days(30)));
    assert_eq!(early, BundleError::Time { secs: 30 * 86_400, skew_secs: 0 });
}

#[test]
fn a_12_half_a_text_and_an_altered_one_are_refused() {
    let it = Downloaded::new(2_509);
    let text = it.verify(AGREED).unwrap().to_pem().to_string();
    for n_bytes in 0..text.len() {
        assert!(Bundle::from_pem(&text[..n_bytes]).is_err(), "{n_bytes} of {}", text.len());
    }
    let luck = Seeded::new(2_510);
    for _ in 0..500 {
        let mut bytes = text.clone().into_bytes();
        let index = luck.below(bytes.len() as u64) as usize;
        bytes[index] ^= 1 << luck.below(7);
        let Ok(altered) = String::from_utf8(bytes) else { continue };
        assert!(Bundle::from_pem(&altered).is_err(), "byte {index} altered");
    }
    assert!(matches!(Bundle::from_pem(&format!("{text}\n")), Err(BundleError::Altered)));
    assert!(Bundle::from_pem(&text.repeat(2)).is_err());
    assert!(Bundle::from_pem(&"x".repeat(100_000)).is_err());
}

#[test]
fn f_01_mutated_texts_never_panic() {
    let it = Downloaded::new(2_515);
    let luck = Seeded::new(2_516);
    let bundle = it.verify(AGREED).unwrap().to_pem().to_string();
    let pieces = ["-----BEGIN ", "-----END ", "PRIVATE KEY", "-----", "\n", "=", "\0", "\u{202e}"];
    for _ in 0..20_000 {
        let mut bytes = bundle.clone().into_bytes();
        for _ in 0..=luck.below(3) {
            let index = luck.below(bytes.len() as u64) as usize;
            let piece = pieces[luck.below(pieces.len() as u64) as usize];
            match luck.below(3) {
                0 => bytes[index] = luck.below(128) as u8,
                1 => drop(bytes.splice(index..index, piece.bytes())),
                _ => drop(bytes.drain(index..(index + 70).min(bytes.len()))),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        // A mutation may by chance put back what was there, never anything else.
        assert!(crate::Authority::from_pem(&text).is_err());
        assert!(Certificate::pair_from_pem(&text).is_err());
        assert!(Bundle::from_pem(&text).is_err() || text == bundle, "{text}");
    }
}

#[test]
fn a_12_parts_of_two_pairings_are_refused() {
    let (one, other) = (Downloaded::new(2_511), Downloaded::new(2_512));
    let sections = |it: &Downloaded| -> Vec<String> {
        let text = it.verify(AGREED).unwrap().to_pem();
        text.split("-----BEGIN ").skip(1).map(|part| format!("-----BEGIN {part}")).collect()
    };
    let (mine, theirs) = (sections(&one), sections(&other));
    assert_eq!((mine.len(), theirs.len()), (5, 5));
    assert!(Bundle::from_pem(&mine.concat()).is_ok());
    for index in 0..5 {
        let mut mixed = mine.clone();
        mixed[index].clone_from(&theirs[index]);
        let error = why(Bundle::from_pem(&mixed.concat()));
        let expected = match index {
            0 | 1 => BundleError::Key,
            2 => BundleError::Authority(Which::Target),
            3 => BundleError::Authority(Which::Own),
            _ => BundleError::Altered,
        };
        assert_eq!(error, expected, "part {index} of another pairing");
        let mut short = mine.clone();
        short.remove(index);
        assert!(Bundle::from_pem(&short.concat()).is_err(), "without part {index}");
    }
}

#[test]
fn a_13_renewal_is_due_after_two_thirds_and_not_for_all_at_once() {
    let target = Target::new(2_513);
    let mut moments = BTreeSet::new();
    for _ in 0..50 {
        let (_, certificate) = target.source();
        let due = renewal::due(&certificate);
        assert_eq!(due, renewal::due(&Certificate::from_pem(&certificate.to_pem()).unwrap()));
        let life = certificate.not_after().since(certificate.not_before());
        let two_thirds = certificate.not_before() + life.times(2).divided_by(3);
        assert!(due >= two_thirds && due < two_thirds + life.divided_by(24));
        assert!(!renewal::is_due(&certificate, due - Span::from_micros(1)));
        assert!(renewal::is_due(&certificate, due));
        moments.insert(due.as_secs() / 3_600);
    }
    assert!(moments.len() > 25, "{} different hours for 50 sources", moments.len());
}

/// A trait that every type has once, and every type that can be printed twice: naming its function
/// without saying which is then an error of the compiler.
trait Printable<Which> {
    fn named() {}
}
struct Once;
struct Twice;
impl<T: ?Sized> Printable<Once> for T {}
impl<T: ?Sized + std::fmt::Debug> Printable<Twice> for T {}

#[test]
fn g_07_what_holds_a_private_key_cannot_be_printed() {
    <PrivateKey as Printable<_>>::named();
    <crate::Authority as Printable<_>>::named();
    <Bundle as Printable<_>>::named();
    <crate::tls::ClientIdentity<'_> as Printable<_>>::named();
    // What may be printed hands the key to the library: nothing of it shows there either.
    let it = Downloaded::new(2_514);
    let bundle = it.verify(AGREED).unwrap();
    let key_text = bundle.key().to_pem();
    let secret = key_text.lines().nth(1).unwrap();
    assert!(bundle.to_pem().contains(secret));
    let settings = format!("{:?}", bundle.client_tls().unwrap());
    let bytes = format!("{:?}", &bundle.key().pair().serialized_der()[40..60]);
    assert!(!settings.contains(secret) && !settings.contains(bytes.trim_matches(['[', ']'])));
}
