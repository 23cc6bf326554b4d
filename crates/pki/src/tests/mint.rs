//! Requests and certificates put together by hand, byte by byte: whatever a library would not
//! write, and at the same time the second reader of what ours writes.

use rcgen::{KeyPair, PublicKeyData, SigningKey};

use crate::der::{INTEGER, Reader, SEQUENCE};
use crate::{Certificate, PrivateKey, Spki};

use super::Target;

pub(crate) const SET: u8 = 0x31;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
pub(crate) const CRITICAL: &[u8] = &[1, 1, 0xff];

/// One element in its only form.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        middle @ 0x80..=0xff => bytes.extend([0x81, middle as u8]),
        long => bytes.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    bytes.extend(content);
    bytes
}

pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// A name of one common name, of this string type.
pub(crate) fn name(tag: u8, text: &[u8]) -> Vec<u8> {
    seq(&[&tlv(SET, &[&seq(&[&[6, 3, 0x55, 4, 3], &tlv(tag, &[text])])])])
}

/// An extension of the standard arc (2.5.29), critical or not.
pub(crate) fn extension(arc: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { CRITICAL } else { &[] };
    seq(&[&[6, 3, 0x55, 0x1d, arc], critical, &tlv(4, &[value])])
}

/// The extended key usages of these last arcs (1 is a server, 2 a client).
pub(crate) fn usages(arcs: &[u8]) -> Vec<u8> {
    let ids: Vec<u8> = arcs.iter().flat_map(|&arc| [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, arc]).collect();
    extension(0x25, false, &seq(&[&ids]))
}

/// The attribute that wishes for extensions (1.2.840.113549.1.9.14).
pub(crate) fn wish(extensions: &[Vec<u8>]) -> Vec<u8> {
    let id = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    seq(&[&id, &tlv(SET, &[&seq(&[&extensions.concat()])])])
}

/// Body, algorithm and signature in their envelope.
pub(crate) fn envelope(body: &[u8], algorithm: &[u8], key: &KeyPair) -> Vec<u8> {
    let signature = key.sign(body).unwrap();
    seq(&[body, algorithm, &tlv(3, &[&[0], &signature])])
}

/// The signed part of a request.
pub(crate) fn request_body(subject: &[u8], spki: &[u8], attributes: &[u8]) -> Vec<u8> {
    seq(&[&[2, 1, 0], subject, spki, &tlv(0xa0, &[attributes])])
}

/// A request as somebody else's tool might have written it, well signed.
pub(crate) fn request(key: &PrivateKey, subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    let body = request_body(subject, key.spki().as_der(), attributes);
    envelope(&body, ECDSA_SHA256, key.pair())
}

/// The private key of the target's authority, as a thief of its file would have it.
pub(crate) fn stolen_authority(target: &Target) -> KeyPair {
    KeyPair::from_pem(&target.authority.to_pem()).unwrap()
}

/// The issuer and subject of a certificate, as they stand there.
fn names(certificate: &Certificate) -> (Vec<u8>, Vec<u8>) {
    let mut outer = Reader::new(certificate.as_der());
    let mut parts = Reader::new(outer.expect(SEQUENCE).unwrap().content);
    let mut body = Reader::new(parts.expect(SEQUENCE).unwrap().content);
    for _ in 0..3 {
        body.element().unwrap();
    }
    let issuer = body.element().unwrap().raw.to_vec();
    body.element().unwrap();
    (issuer, body.element().unwrap().raw.to_vec())
}

/// Everything that stands in a certificate, to be changed one thing at a time.
#[derive(Clone)]
pub(crate) struct Mint {
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    /// Authority key id, key usage, extended key usage, subject key id, basic constraints.
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Mint {
    /// Exactly what this target must write for a source paired at [`super::NOW`] for 90 days.
    pub(crate) fn profile(target: &Target, spki: &Spki, subject: &str, serial: &[u8]) -> Self {
        let authority = target.authority.certificate();
        let key_id = |spki: &Spki| spki.thumbprint().as_bytes()[..20].to_vec();
        let authority_id = seq(&[&tlv(0x80, &[&key_id(authority.spki())])]);
        let subject_id = tlv(4, &[&key_id(spki)]);
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: tlv(INTEGER, &[serial]),
            algorithm: ECDSA_SHA256.to_vec(),
            issuer: names(authority).1,
            not_before: "261031230000Z".to_owned(),
            not_after: "270130000000Z".to_owned(),
            subject: name(UTF8, subject.as_bytes()),
            spki: spki.as_der().to_vec(),
            extensions: vec![
                extension(0x23, false, &authority_id),
                extension(0x0f, true, &[3, 2, 7, 0x80]),
                usages(&[2]),
                extension(0x0e, false, &subject_id),
                extension(0x13, true, &[0x30, 0]),
            ],
        }
    }

    /// The signed part.
    pub(crate) fn body(&self) -> Vec<u8> {
        let times = seq(&[
            &tlv(UTC_TIME, &[self.not_before.as_bytes()]),
            &tlv(UTC_TIME, &[self.not_after.as_bytes()]),
        ]);
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            some => tlv(0xa3, &[&seq(&[&some.concat()])]),
        };
        seq(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &times,
            &self.subject,
            &self.spki,
            &extensions,
        ])
    }

    pub(crate) fn signed_by(&self, key: &KeyPair) -> Vec<u8> {
        envelope(&self.body(), &self.algorithm, key)
    }

    /// The public key of a pair, whatever its algorithm.
    pub(crate) fn with_key(mut self, key: &impl PublicKeyData) -> Self {
        self.spki = key.subject_public_key_info();
        self
    }
}
