//! F-04 and A-14, as far as a certificate alone decides: what it is to the row of a pairing.
//!
//! **Absent:** revoked, another tenant's path, every route: those are rows and gates, in the cores.

use offsite_model::{CoreId, Luck, Span};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;

use super::mint::{CRITICAL, Mint, UTF8, extension, name, seq, stolen_authority, tlv, usages};
use super::{NOW, Target};
use crate::certificate::CertificateError;
use crate::key::KeyError;
use crate::{Pinned, Presented, PresentedError, PrivateKey, Standing, Validity};

/// A pairing: the target, the source's key, and the one good certificate with its parts.
struct Pairing {
    target: Target,
    key: PrivateKey,
    good: crate::Certificate,
    parts: Mint,
    thief: KeyPair,
}

impl Pairing {
    fn new(seed: u64) -> Self {
        let target = Target::new(seed);
        let (key, good) = target.source();
        let subject = good.common_name().unwrap().to_owned();
        let parts = Mint::profile(&target, key.spki(), &subject, good.serial().as_bytes());
        let thief = stolen_authority(&target);
        Self { target, key, good, parts, thief }
    }

    fn row(&self) -> Pinned<'_> {
        Pinned {
            thumbprint: self.key.spki().thumbprint(),
            serial: self.good.serial(),
            authority: self.target.authority.certificate(),
        }
    }

    /// What the gate makes of these bytes; `Err` is a refusal in the handshake already.
    fn judge(&self, der: &[u8]) -> Result<Standing, PresentedError> {
        let shown = Presented::from_chain(&[CertificateDer::from(der)])?;
        let standing = shown.judge(self.row(), NOW);
        assert_eq!(shown.judge(self.row(), NOW), standing, "asked again");
        Ok(standing)
    }

    /// The good certificate with one thing changed, signed with the stolen key of the authority.
    fn but(&self, change: impl FnOnce(&mut Mint)) -> Result<Standing, PresentedError> {
        let mut parts = self.parts.clone();
        change(&mut parts);
        self.judge(&parts.signed_by(&self.thief))
    }
}

#[test]
fn f_04_the_good_certificate_is_active_and_so_is_its_like_from_our_mint() {
    let pairing = Pairing::new(2_401);
    assert_eq!(pairing.judge(pairing.good.as_der()), Ok(Standing::Active));
    // The mint of these tests writes a good one, so each case below fails by its one change.
    assert_eq!(pairing.but(|_| {}), Ok(Standing::Active));
}

#[test]
fn f_04_in_form_but_not_ours() {
    let pairing = Pairing::new(2_402);
    let target = &pairing.target;
    let not_ours = Ok(Standing::NotOurs);
    let unknown = PrivateKey::generate().unwrap();
    let own = crate::self_signed(&unknown, NOW, &target.luck).unwrap();
    assert_eq!(pairing.judge(own.as_der()), not_ours, "self-signed, unknown key");
    let own = crate::self_signed(&pairing.key, NOW, &target.luck).unwrap();
    assert_eq!(pairing.judge(own.as_der()), not_ours, "self-signed, key of an active pairing");
    let forged = pairing.parts.signed_by(pairing.key.pair());
    assert_eq!(pairing.judge(&forged), not_ours, "a copy of the good one, signed by its holder");

    let other = Target::new(2_403);
    let id = CoreId::random(&target.luck);
    let validity = Validity::usual(NOW);
    let issued =
        other.authority.issue_client(pairing.key.spki(), id, validity, &target.luck).unwrap();
    assert_eq!(pairing.judge(issued.as_der()), not_ours, "another authority");
    let twin = pairing.parts.signed_by(&stolen_authority(&other));
    assert_eq!(pairing.judge(&twin), not_ours, "another authority under our authority's name");
    let issued = target.authority.issue_client(unknown.spki(), id, validity, &target.luck).unwrap();
    assert_eq!(pairing.judge(issued.as_der()), not_ours, "our authority, key without a row");
    let issued =
        target.authority.issue_client(pairing.key.spki(), id, validity, &target.luck).unwrap();
    assert_eq!(pairing.judge(issued.as_der()), not_ours, "our authority, serial without a row");
    let case = pairing.but(|it| *it = it.clone().with_key(unknown.spki()));
    assert_eq!(case, not_ours, "our authority, the row's serial, another key");
    assert_eq!(pairing.judge(target.certificate.as_der()), not_ours, "the target's own");
    let authority = target.authority.certificate().as_der();
    assert_eq!(pairing.judge(authority), not_ours, "the authority's own");

    assert_eq!(pairing.but(|it| it.extensions[2] = usages(&[1])), not_ours, "server only");
    assert_eq!(pairing.but(|it| it.extensions[2] = usages(&[1, 2])), not_ours, "server too");
    assert_eq!(pairing.but(|it| drop(it.extensions.remove(2))), not_ours, "no usage");
    let any = extension(0x25, false, &seq(&[&[6, 4, 0x55, 0x1d, 0x25, 0]]));
    assert_eq!(pairing.but(|it| it.extensions[2] = any), not_ours, "any usage");
    let authority = extension(0x13, true, &[0x30, 3, 1, 1, 0xff]);
    assert_eq!(pairing.but(|it| it.extensions[4] = authority), not_ours, "leaf with CA:TRUE");
    let names = extension(0x11, false, &seq(&[&tlv(0x82, &[b"*"])]));
    assert_eq!(pairing.but(|it| it.extensions.push(names)), not_ours, "a name it never got");
    assert_eq!(pairing.but(|it| it.issuer = name(UTF8, b"other")), not_ours, "other issuer");
    let key_id = extension(0x23, false, &seq(&[&tlv(0x80, &[&[7; 20]])]));
    assert_eq!(pairing.but(|it| it.extensions[0] = key_id), not_ours, "other key id");
    assert_eq!(pairing.but(|it| it.extensions.clear()), not_ours, "no extensions at all");
}

#[test]
fn f_04_keys_and_signatures_off_the_list_are_refused_in_the_handshake() {
    let pairing = Pairing::new(2_404);
    let leaf = |error| Err(PresentedError::Leaf(error));
    let key = |error| Err(PresentedError::Leaf(CertificateError::Key(error)));
    let sha1 = [0x30, 9, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    let case = pairing.but(|it| it.algorithm = sha1.to_vec());
    assert_eq!(case, leaf(CertificateError::SignatureAlgorithm), "SHA-1");
    let null_added = [&[0x30, 12][..], &super::mint::ECDSA_SHA256[2..], &[5, 0]].concat();
    let case = pairing.but(|it| it.algorithm = null_added);
    assert_eq!(case, leaf(CertificateError::SignatureAlgorithm), "parameters that do not belong");

    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let case = pairing.but(|it| *it = it.clone().with_key(&rsa));
    assert_eq!(case, key(KeyError::Algorithm), "RSA-2048");
    let id = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let rsa_1024 = seq(&[&tlv(2, &[&[0], &[0xab; 128]]), &[2, 3, 1, 0, 1]]);
    let rsa_1024 = seq(&[&seq(&[&id]), &tlv(3, &[&[0], &rsa_1024])]);
    assert_eq!(pairing.but(|it| it.spki = rsa_1024), key(KeyError::Algorithm), "RSA-1024");
    let endless = seq(&[&tlv(2, &[&[0], &[0xab; 512]]), &tlv(2, &[&[0x7f; 256]])]);
    let endless = seq(&[&seq(&[&id]), &tlv(3, &[&[0], &endless])]);
    assert_eq!(pairing.but(|it| it.spki = endless), key(KeyError::Algorithm), "RSA, dear exponent");
    let p224 = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x21];
    let p224 = seq(&[&seq(&[&p224]), &tlv(3, &[&[0, 4], &[0x5a; 56]])]);
    assert_eq!(pairing.but(|it| it.spki = p224), key(KeyError::Algorithm), "P-224");
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let p521 = p521.subject_public_key_info();
    assert_eq!(pairing.but(|it| it.spki = p521), key(KeyError::Algorithm), "P-521");
}

#[test]
fn f_04_odd_versions_serials_and_extensions_are_refused_in_the_handshake() {
    let pairing = Pairing::new(2_411);
    let leaf = |error| Err(PresentedError::Leaf(error));
    let extension_bad = || leaf(CertificateError::Extension);

    let v1 = pairing.but(|it| {
        it.version.clear();
        it.extensions.clear();
    });
    assert_eq!(v1, leaf(CertificateError::Version), "version 1");
    let v2 = pairing.but(|it| it.version = vec![0xa0, 3, 2, 1, 1]);
    assert_eq!(v2, leaf(CertificateError::Version), "version 2");
    for serial in
        [vec![2, 1, 0x80], vec![2, 1, 0], vec![2, 0], tlv(2, &[&[1; 21]]), vec![2, 2, 0, 1]]
    {
        let case = pairing.but(|it| it.serial = serial.clone());
        assert!(matches!(case, Err(PresentedError::Leaf(_))), "serial {serial:02x?}: {case:?}");
    }

    let doubled = usages(&[2]);
    assert_eq!(pairing.but(|it| it.extensions.push(doubled)), extension_bad(), "doubled");
    let unknown = seq(&[&[6, 5, 0x2b, 6, 1, 4, 99], CRITICAL, &tlv(4, &[b"?"])]);
    assert_eq!(pairing.but(|it| it.extensions.push(unknown)), extension_bad(), "critical unknown");
    let unknown = seq(&[&[6, 5, 0x2b, 6, 1, 4, 99], &tlv(4, &[b"?"])]);
    assert_eq!(pairing.but(|it| it.extensions.push(unknown)), Ok(Standing::Active), "unknown");
    let broken = extension(0x13, true, &[0x30, 6, 1, 1, 0xff, 2, 1, 0x80]);
    let case = pairing.but(|it| it.extensions[4] = broken);
    assert!(!matches!(case, Ok(Standing::Active)), "broken path length: {case:?}");
    let constraints = extension(0x1e, true, &seq(&[&tlv(0xa0, &[&[]])]));
    let case = pairing.but(|it| it.extensions.push(constraints));
    assert_eq!(case, extension_bad(), "critical name constraints");
    let many = (0..40).map(|arc| extension(60 + arc, false, &[5, 0]));
    assert_eq!(pairing.but(|it| it.extensions.extend(many)), extension_bad(), "forty extensions");
}

#[test]
fn f_04_bytes_beside_a_certificate_and_long_chains_are_refused() {
    let pairing = Pairing::new(2_412);
    let malformed = || Err(PresentedError::Leaf(CertificateError::Malformed));
    assert!(matches!(Presented::from_chain(&[]), Err(PresentedError::Nothing)));
    let good = pairing.good.as_der();
    assert_eq!(pairing.judge(&[&good[..], &[0]].concat()), malformed(), "a byte behind");
    assert_eq!(pairing.judge(&good[..good.len() - 1]), malformed(), "cut");
    assert_eq!(pairing.judge(&[]), malformed(), "nothing");
    let chain = |n_times| Presented::from_chain(&vec![good.clone(); n_times]).map(drop);
    assert_eq!((chain(4), chain(5)), (Ok(()), Err(PresentedError::TooLong)));
    assert_eq!(chain(100), Err(PresentedError::TooLong), "a hundred certificates");
    assert_eq!(pairing.judge(&vec![0x30; 1 << 20]), Err(PresentedError::TooLong), "a megabyte");
}

#[test]
fn a_14_time_is_judged_with_a_day_of_tolerance_and_says_how_far() {
    let pairing = Pairing::new(2_405);
    let shown = Presented::from_chain(&[pairing.good.as_der().clone()]).unwrap();
    let judge = |at| shown.judge(pairing.row(), at);
    let (begin, end) = (pairing.good.not_before(), pairing.good.not_after());
    let second = Span::from_secs(1);
    let days = Span::from_days;
    assert_eq!(begin, NOW - Span::from_hours(1));
    assert_eq!(end, NOW + days(90));
    assert_eq!(judge(begin - days(1)), Standing::Active);
    let ahead = Span::from_secs(86_401);
    assert_eq!(judge(begin - ahead), Standing::NotYet { ahead });
    assert_eq!(judge(end), Standing::Active);
    assert_eq!(judge(end + days(1) - second), Standing::Active);
    for n_days in [1, 179, 181] {
        assert_eq!(judge(end + days(n_days)), Standing::Expired { since: days(n_days) });
    }
    // A holder who prolongs his own expired certificate gets nowhere.
    let mut longer = pairing.parts.clone();
    longer.not_after = "290130000000Z".to_owned();
    assert_eq!(pairing.judge(&longer.signed_by(pairing.key.pair())), Ok(Standing::NotOurs));
}

#[test]
fn f_04_one_caller_is_judged_against_two_authorities() {
    let (pairing, other) = (Pairing::new(2_406), Target::new(2_407));
    let shown = Presented::from_chain(&[pairing.good.as_der().clone()]).unwrap();
    let elsewhere = Pinned { authority: other.authority.certificate(), ..pairing.row() };
    for _ in 0..2 {
        assert_eq!(shown.judge(pairing.row(), NOW), Standing::Active);
        assert_eq!(shown.judge(elsewhere, NOW), Standing::NotOurs);
    }
}

#[test]
fn f_04_a_paired_source_is_no_authority_for_others() {
    let pairing = Pairing::new(2_410);
    let (key, leaf) = pairing.target.source();
    let mut parts = pairing.parts.clone();
    parts.issuer = name(UTF8, leaf.common_name().unwrap().as_bytes());
    let key_id = leaf.thumbprint();
    let key_id = seq(&[&tlv(0x80, &[&key_id.as_bytes()[..20]])]);
    parts.extensions[0] = extension(0x23, false, &key_id);
    let below = crate::Certificate::from_der(&parts.signed_by(key.pair())).unwrap();
    assert!(!below.is_signed_by(&leaf));
    assert_eq!(pairing.judge(below.as_der()), Ok(Standing::NotOurs));
}

#[test]
fn f_01_f_04_mutated_certificates_are_never_active_and_never_panic() {
    let pairing = Pairing::new(2_408);
    let luck = &pairing.target.luck;
    let good = pairing.good.as_der().to_vec();
    let mut n_in_form = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=luck.below(4) {
            let index = luck.below(bytes.len() as u64) as usize;
            match luck.below(4) {
                0 => bytes[index] ^= 1 << luck.below(8),
                1 => bytes[index] = luck.below(256) as u8,
                2 => bytes.truncate(index.max(1)),
                _ => bytes.insert(index, luck.below(256) as u8),
            }
        }
        if bytes == good {
            continue;
        }
        if let Ok(standing) = pairing.judge(&bytes) {
            n_in_form += 1;
            assert_eq!(standing, Standing::NotOurs, "{bytes:02x?}");
        }
    }
    assert!(n_in_form > 100, "only {n_in_form} mutations got as far as a judgement");
}

/// The shapes that cost a reader most: as many small things, or as deep, as 16 KiB allow.
fn dear(pairing: &Pairing) -> Vec<(&'static str, Vec<u8>)> {
    let made = |change: &dyn Fn(&mut Mint)| {
        let mut parts = pairing.parts.clone();
        change(&mut parts);
        parts.signed_by(&pairing.thief)
    };
    let deep = |n_levels: usize| (0..n_levels).fold(Vec::new(), |inside, _| seq(&[&inside]));
    let one_name = name(UTF8, b"x");
    let many_names = seq(&[&one_name[2..].repeat(1_000)]);
    let small = seq(&[&[6, 3, 0x55, 0x1d, 99], &tlv(4, &[b""])]);
    let long_oid = seq(&[&tlv(6, &[&[0x55], &[0xff; 15_000]]), &tlv(4, &[b""])]);
    let other_names = extension(0x11, false, &seq(&[&tlv(0x82, &[b"a"]).repeat(4_000)]));
    let ids = extension(0x25, false, &seq(&[&[6, 3, 0x55, 0x1d, 1].repeat(3_000)]));
    let policies = extension(0x20, false, &seq(&[&seq(&[&[6, 2, 0x55, 1]]).repeat(2_000)]));
    let deep_value = extension(0x23, false, &deep(3_500));
    vec![
        ("zeros", vec![0; 16_384]),
        ("sequences", vec![0x30; 16_384]),
        ("endless lengths", [0x30, 0x82, 0x3f, 0xfc].repeat(4_096)),
        ("deep", deep(3_500)),
        ("names", made(&|it| it.subject = many_names.clone())),
        ("issuers", made(&|it| it.issuer = many_names.clone())),
        ("small extensions", made(&|it| it.extensions = vec![small.clone(); 1_200])),
        ("long oid", made(&|it| it.extensions.push(long_oid.clone()))),
        ("alternative names", made(&|it| it.extensions.push(other_names.clone()))),
        ("usages", made(&|it| it.extensions[2] = ids.clone())),
        ("policies", made(&|it| it.extensions.push(policies.clone()))),
        ("deep extension", made(&|it| it.extensions[0] = deep_value.clone())),
        ("long serial", made(&|it| it.serial = tlv(2, &[&[0x7f; 15_000]]))),
        ("good", pairing.good.as_der().to_vec()),
    ]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the row bounds real time spent on one certificate")]
fn f_04_no_certificate_costs_more_than_fifty_milliseconds() {
    let pairing = Pairing::new(2_409);
    for (case, der) in dear(&pairing) {
        assert!(der.len() <= 16_384, "{case}: {} bytes", der.len());
        // The least of five, because the machine does other things as well.
        let spent = (0..5).map(|_| {
            let start = std::time::Instant::now();
            let _standing = pairing.judge(&der);
            start.elapsed()
        });
        let least = spent.min().unwrap();
        println!("{case}: {least:?}");
        assert!(least < std::time::Duration::from_millis(50), "{case} took {least:?}");
    }
}
