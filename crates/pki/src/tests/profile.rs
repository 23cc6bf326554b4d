//! whatever a request says, the certificate is the profile, to the byte, or there is none.

use std::slice;

use offsite_model::{CoreId, Luck};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::mint::{Mint, SET, UTF8, extension, name, request, seq, tlv, usages, wish};
use super::{NOW, Target};
use crate::der::Signed;
use crate::{Authority, IssueError, PrivateKey, Serial, Spki, Validity, request as requests};

/// Issues for this key and compares the result with the profile, byte by byte; then asks a second
/// parser, which shares no code with the comparison.
fn assert_profile(target: &Target, spki: &Spki) {
    let id = CoreId::random(&target.luck);
    let validity = Validity::usual(NOW);
    let issued = target.authority.issue_client(spki, id, validity, &target.luck).unwrap();
    let serial = issued.serial().as_bytes();
    assert!(serial.len() == 16 && serial[0] & 0x80 == 0, "{serial:02x?}");
    let expected = Mint::profile(target, spki, &id.to_string(), serial);
    let signed = Signed::read(issued.as_der()).unwrap();
    assert_eq!(signed.body, expected.body(), "not exactly the profile");
    assert!(issued.is_signed_by(target.authority.certificate()));

    let (rest, parsed) = X509Certificate::from_der(issued.as_der()).unwrap();
    assert!(rest.is_empty());
    assert_eq!(parsed.subject().to_string(), format!("CN={id}"));
    assert_eq!(parsed.extensions().len(), 5);
    assert_eq!(parsed.public_key().raw, spki.as_der());
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    let times = parsed.validity();
    assert_eq!(times.not_before.timestamp(), NOW.as_secs() - 3_600);
    assert_eq!(times.not_after.timestamp(), NOW.as_secs() + 90 * 86_400);
}

/// Twenty-five requests that ask for more than they should, or ask for it in odd ways.
fn hostile(key: &PrivateKey, victim: CoreId) -> Vec<(&'static str, Vec<u8>)> {
    let plain = seq(&[]);
    let wishing = |extensions: &[Vec<u8>]| request(key, &plain, &wish(extensions));
    let named = |tag, text: &[u8]| request(key, &name(tag, text), &[]);
    let authority = extension(0x13, true, &[0x30, 3, 1, 1, 0xff]);
    let names = |content: &[u8]| extension(0x11, false, &seq(&[content]));
    let dns = |text: &[u8]| names(&tlv(0x82, &[text]));
    let unknown = |critical: bool| {
        let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
        seq(&[&[6, 5, 0x2b, 6, 1, 4, 99], critical, &tlv(4, &[b"whatever"])])
    };
    let other_attribute = seq(&[
        &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7],
        &tlv(SET, &[&tlv(UTF8, &[b"challenge"])]),
    ]);
    vec![
        ("authority", wishing(slice::from_ref(&authority))),
        ("authority with path", wishing(&[extension(0x13, true, &[0x30, 6, 1, 1, 0xff, 2, 1, 9])])),
        ("authority, not critical", wishing(&[extension(0x13, false, &[0x30, 3, 1, 1, 0xff])])),
        ("server", wishing(&[usages(&[1])])),
        ("server and client", wishing(&[usages(&[1, 2])])),
        ("any usage", wishing(&[extension(0x25, false, &seq(&[&[6, 4, 0x55, 0x1d, 0x25, 0]]))])),
        ("code signing", wishing(&[usages(&[3, 4, 8, 9])])),
        ("key usage of an authority", wishing(&[extension(0x0f, true, &[3, 2, 1, 6])])),
        ("wildcard", wishing(&[dns(b"*")])),
        ("wildcard of a domain", wishing(&[dns(b"*.example")])),
        ("address", wishing(&[names(&tlv(0x87, &[&[192, 0, 2, 1]]))])),
        ("mail", wishing(&[names(&tlv(0x81, &[b"root@target.example"]))])),
        ("long san", wishing(&[dns(&[b'a'; 3_000])])),
        ("another source's name", named(UTF8, victim.to_string().as_bytes())),
        ("long name", named(UTF8, &[b'A'; 4_096])),
        ("nul in the name", named(UTF8, b"admin\0.example")),
        ("right-to-left marks", named(UTF8, "\u{202e}elpmaxe.nimda\u{200f}".as_bytes())),
        ("name that is no utf-8", named(UTF8, &[0xff, 0xfe, 0x80])),
        ("name of an odd type", named(0x1e, &[0, 0x41, 0x20])),
        ("doubled extensions", wishing(&[authority.clone(), authority.clone()])),
        ("unknown extension", wishing(&[unknown(false)])),
        ("unknown critical extension", wishing(&[unknown(true), authority.clone()])),
        ("doubled wishes", {
            let both = [wish(slice::from_ref(&authority)), wish(&[usages(&[1])])].concat();
            request(key, &plain, &both)
        }),
        ("another attribute", request(key, &plain, &other_attribute)),
        (
            "attributes that are no attributes",
            request(key, &plain, &[0x05, 0, 0x30, 0, 0x02, 1, 7]),
        ),
    ]
}

#[test]
fn a_02_hostile_requests_yield_exactly_the_profile() {
    let target = Target::new(2_201);
    let key = PrivateKey::generate().unwrap();
    let cases = hostile(&key, CoreId::random(&target.luck));
    assert_eq!(cases.len(), 25);
    for (case, der) in cases {
        // Each is well formed where we look and well signed: none is refused, each gets the
        // profile.
        let read = requests::from_der(&der).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(read.spki(), key.spki(), "{case}");
        assert_profile(&target, read.spki());
    }
}

#[test]
fn a_02_mutations_of_what_a_request_asks_for_change_nothing() {
    let target = Target::new(2_202);
    let key = PrivateKey::generate().unwrap();
    let victim = CoreId::random(&target.luck);
    let luck = &target.luck;
    let attributes = wish(&[extension(0x13, true, &[0x30, 3, 1, 1, 0xff]), usages(&[1, 2])]);
    let subject = name(UTF8, victim.to_string().as_bytes());
    let (mut n_profile, mut n_refused) = (0, 0);
    for _ in 0..300 {
        let mut subject = subject.clone();
        let mut attributes = attributes.clone();
        for _ in 0..=luck.below(3) {
            let index = luck.below(subject.len() as u64) as usize;
            subject[index] = luck.below(256) as u8;
            let index = luck.below(attributes.len() as u64) as usize;
            attributes[index] = luck.below(256) as u8;
        }
        match requests::from_der(&request(&key, &subject, &attributes)) {
            Ok(read) => {
                assert_profile(&target, read.spki());
                n_profile += 1;
            }
            Err(_) => n_refused += 1,
        }
    }
    assert!(n_profile > 50 && n_refused > 5, "{n_profile} issued, {n_refused} refused");
}

#[test]
fn a_02_every_listed_algorithm_gets_the_profile_over_its_own_bytes() {
    use rcgen::*;
    let target = Target::new(2_203);
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA512] {
        let key = if algorithm == &PKCS_RSA_SHA512 {
            KeyPair::generate_rsa_for(algorithm, RsaKeySize::_3072).unwrap()
        } else {
            KeyPair::generate_for(algorithm).unwrap()
        };
        assert_profile(&target, &Spki::from_der(&key.subject_public_key_info()).unwrap());
    }
}

#[test]
fn a_02_serials_do_not_repeat_and_lives_are_bounded() {
    let target = Target::new(2_204);
    let key = PrivateKey::generate().unwrap();
    let id = CoreId::random(&target.luck);
    let mut serials = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let validity = Validity::usual(NOW);
        let issued = target.authority.issue_client(key.spki(), id, validity, &target.luck).unwrap();
        assert!(serials.insert(issued.serial().as_bytes().to_vec()));
    }
    let serial = Serial::random(&target.luck);
    for _ in 0..2 {
        let validity = Validity::usual(NOW);
        let issued = target.authority.issue_client_as(key.spki(), id, validity, &serial).unwrap();
        assert_eq!(issued.serial(), &serial);
    }
    assert!(Validity::days(NOW, 400).is_ok());
    for days in [0, 401, u32::MAX] {
        assert!(Validity::days(NOW, days).is_err(), "{days}");
    }
}

#[test]
fn an_authority_survives_its_text_and_signs_as_before() {
    let target = Target::new(2_205);
    let text = target.authority.to_pem();
    let again = Authority::from_pem(&text).unwrap();
    let key = PrivateKey::generate().unwrap();
    let id = CoreId::random(&target.luck);
    let issued = again.issue_client(key.spki(), id, Validity::usual(NOW), &target.luck).unwrap();
    assert!(issued.is_signed_by(target.authority.certificate()));
    // A source's pair of key and certificate is no authority, and mixed halves are none either.
    let (key, certificate) = target.source();
    let leaf = format!("{}{}", *key.to_pem(), certificate.to_pem());
    assert!(matches!(Authority::from_pem(&leaf), Err(IssueError::Mismatch)));
    let mixed = format!("{}{}", *key.to_pem(), target.authority.certificate().to_pem());
    assert!(matches!(Authority::from_pem(&mixed), Err(IssueError::Mismatch)));
    assert!(Authority::from_pem(&text[..text.len() - 40]).is_err());
    for name in ["", "a\nb", &"x".repeat(65)] {
        assert!(matches!(Authority::create(name, NOW, &target.luck), Err(IssueError::Name)));
    }
    for name in ["*.example", "", "a b", "\u{202e}x"] {
        let validity = Validity::usual(NOW);
        let made = target.authority.issue_server(&target.key, id, &[name], validity, &target.luck);
        assert!(matches!(made, Err(IssueError::Name)), "{name:?}");
    }
}
