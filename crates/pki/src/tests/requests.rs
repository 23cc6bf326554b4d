//! what is accepted as a request at all.

use offsite_model::Luck;
use rcgen::KeyPair;

use super::mint::{ECDSA_SHA256, envelope, request, request_body, seq};
use super::{Seeded, Target};
use crate::key::KeyError;
use crate::request::{self, RequestError};
use crate::{PrivateKey, Spki, pem};

/// The bytes of a request that our own source makes.
fn ours(key: &PrivateKey) -> Vec<u8> {
    let text = request::make(key).unwrap();
    let kind = rustls_pki_types::pem::SectionKind::Csr;
    pem::only(&text, kind, 16_384, "a request").unwrap().to_vec()
}

#[test]
fn a_request_of_ours_is_read_and_only_its_key_survives() {
    let key = PrivateKey::generate().unwrap();
    let text = request::make(&key).unwrap();
    assert_eq!(request::read(&text).unwrap().spki(), key.spki());
    assert_eq!(request::read(&text.replace('\n', "\r\n")).unwrap().spki(), key.spki());
    let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.spki(), key.spki());
}

#[test]
fn a_01_every_flipped_bit_of_a_request_is_refused() {
    let luck = Seeded::new(2_101);
    for round in 0..200 {
        let der = ours(&PrivateKey::generate().unwrap());
        let bit = luck.below(der.len() as u64 * 8) as usize;
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(request::from_der(&der).is_ok());
        assert!(request::from_der(&flipped).is_err(), "round {round}: bit {bit} of {der:02x?}");
    }
    // And of one request, every bit there is.
    let der = ours(&PrivateKey::generate().unwrap());
    for bit in 0..der.len() * 8 {
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(request::from_der(&flipped).is_err(), "bit {bit} of {der:02x?}");
    }
}

#[test]
fn a_01_a_request_signed_by_another_key_is_refused() {
    let (mine, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let body = request_body(&seq(&[]), other.spki().as_der(), &[]);
    let stolen = envelope(&body, ECDSA_SHA256, mine.pair());
    assert_eq!(request::from_der(&stolen), Err(RequestError::Signature));
    let own = envelope(&body, ECDSA_SHA256, other.pair());
    assert_eq!(request::from_der(&own).unwrap().spki(), other.spki());
}

#[test]
fn a_01_bytes_before_behind_and_between_are_refused() {
    let der = ours(&PrivateKey::generate().unwrap());
    for bad in [[&der[..], &[0]].concat(), der[1..].to_vec(), der[..der.len() - 1].to_vec(), vec![]]
    {
        assert_eq!(request::from_der(&bad), Err(RequestError::Malformed));
    }
    let text = request::make(&PrivateKey::generate().unwrap()).unwrap();
    assert!(matches!(request::read(&text.repeat(2)), Err(RequestError::Text(_))));
    assert!(matches!(request::read(""), Err(RequestError::Text(_))));
    assert!(matches!(request::read(&"x".repeat(17_000)), Err(RequestError::Text(_))));
    let certificate = Target::new(2_102).certificate.to_pem();
    assert!(matches!(request::read(&certificate), Err(RequestError::Text(_))));
}

/// Made by OpenSSL 3.0 for keys that were thrown away: P-256 with a subject, `CA:TRUE` and a
/// wildcard; P-384 signed over SHA-256, as that tool does; Ed25519.
const BY_OPENSSL: [&str; 3] = [
    "-----BEGIN CERTIFICATE REQUEST-----
MIIBLDCB0wIBADA5MQswCQYDVQQGEwJERTERMA8GA1UECgwIU29tZWJvZHkxFzAV
BgNVBAMMDnNvdXJjZS5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
OzIMMPUiUGLOU8YuivvTBQT8WZV1hSja7B0McFLDaU6pJnGurYIlQDN6KJzWdtrQ
1gGRsNdXNtrwzTiQJPceLKA4MDYGCSqGSIb3DQEJDjEpMCcwFAYDVR0RBA0wC4IJ
Ki5leGFtcGxlMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAO+1
xPmKlbCAkXlVL6mOgNB+vqlNveW1EthmGv3RHViGAiBT+asB8O/l6mmrDVmXrSd7
zWqJfkXQM6k0nIhSqv2H+w==
-----END CERTIFICATE REQUEST-----
",
    "-----BEGIN CERTIFICATE REQUEST-----
MIIBBDCBiwIBADAMMQowCAYDVQQDDAF4MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE
EJOCFUdN6gCbAwkRPiV9v/3Z4O0rhVpcQokSDC0yHMM8afAhhqTP06A/4vQaS+uI
3w7w7zVetkolAsVEqbu7QBvHzKC4nb2Ca1xETqM7Z8HkvwaCz/wFVCKnCCKAxa1O
oAAwCgYIKoZIzj0EAwIDaAAwZQIxAJcHfDpka9+f3QZMGwbs+MYYHoLdi5isjN+t
5u8DArH45dfMK/mrz7KUc4MWakAaPQIwSIZGDW8Y0uCnKfNpd3pVVrcK1nJvZ1o3
/sn9w0F75QygqDPV6oDWh6PwczKi5PzA
-----END CERTIFICATE REQUEST-----
",
    "-----BEGIN CERTIFICATE REQUEST-----
MIGLMD8CAQAwDDEKMAgGA1UEAwwBeDAqMAUGAytlcAMhAIkEYVhN1dIFZWv53sps
0LhPV0GnVb8KdZLHGcSapko6oAAwBQYDK2VwA0EAfHMUqJz9OXZySixyaJJnef6V
KXiWzRmwMnh2v2/F0QmhfQDInryKRBCnf24kYehjyubhM6Z/MhtEiG+ey43RDg==
-----END CERTIFICATE REQUEST-----
",
];

#[test]
fn a_01_requests_of_another_tool_are_read() {
    use crate::KeyAlgorithm::{Ed25519, P256, P384};
    for (text, algorithm) in BY_OPENSSL.into_iter().zip([P256, P384, Ed25519]) {
        assert_eq!(request::read(text).unwrap().spki().algorithm(), algorithm);
        // One letter in the middle of the key is another key, over which the signature is none.
        let changed: String =
            text.char_indices().map(|(index, c)| if index == 150 { flip(c) } else { c }).collect();
        assert!(request::read(&changed).is_err());
    }
}

fn flip(letter: char) -> char {
    if letter == 'A' { 'B' } else { 'A' }
}

/// A request over any key that the library can make, signed as the library does.
fn by_library(key: &KeyPair) -> Vec<u8> {
    let wish = rcgen::CertificateParams::default();
    wish.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn a_01_only_the_listed_algorithms_are_accepted() {
    use rcgen::{RsaKeySize, *};
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let read = request::from_der(&by_library(&key)).unwrap();
        assert_eq!(read.spki().as_der(), key.subject_public_key_info());
    }
    let rsa = |size, algorithm| KeyPair::generate_rsa_for(algorithm, size).unwrap();
    for algorithm in [&PKCS_RSA_SHA256, &PKCS_RSA_SHA512] {
        let key = rsa(RsaKeySize::_3072, algorithm);
        let read = request::from_der(&by_library(&key)).unwrap();
        assert_eq!(read.spki().as_der(), key.subject_public_key_info());
    }
    for key in [
        rsa(RsaKeySize::_2048, &PKCS_RSA_SHA256),
        KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap(),
    ] {
        let refused = request::from_der(&by_library(&key));
        assert_eq!(refused, Err(RequestError::Key(KeyError::Algorithm)));
    }
}

#[test]
fn a_key_has_one_encoding() {
    let key = PrivateKey::generate().unwrap();
    let der = key.spki().as_der().to_vec();
    assert_eq!(Spki::from_der(&der).unwrap().thumbprint(), key.spki().thumbprint());
    // The same point, compressed: another encoding of the same key would have another thumbprint.
    let point = &der[der.len() - 64..];
    let compressed = [&[2 + (point[63] & 1)], &point[..32]].concat();
    let id = [&[0x30, 19][..], &der[4..23]].concat();
    let second = seq(&[&id, &super::mint::tlv(3, &[&[0], &compressed])]);
    assert_eq!(Spki::from_der(&second), Err(KeyError::Algorithm));
    assert!(Spki::from_der(&[&der[..], &[0]].concat()).is_err());
    assert!(Spki::from_der(&[0; 2_000]).is_err());
}

#[test]
fn f_01_mutated_requests_never_panic() {
    let luck = Seeded::new(2_103);
    let key = PrivateKey::generate().unwrap();
    let der = request(&key, &super::mint::name(super::mint::UTF8, b"me"), &[]);
    for _ in 0..20_000 {
        let mut bytes = der.clone();
        for _ in 0..=luck.below(4) {
            let index = luck.below(bytes.len() as u64) as usize;
            match luck.below(3) {
                0 => bytes[index] = luck.below(256) as u8,
                1 => bytes.truncate(index.max(1)),
                _ => bytes.insert(index, luck.below(256) as u8),
            }
        }
        if let Ok(read) = request::from_der(&bytes) {
            assert_eq!((read.spki(), &bytes), (key.spki(), &der));
        }
    }
}
