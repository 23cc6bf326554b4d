//! Keys, certificates and TLS 1.3 for one client: the key it shows, and the one key it believes.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::Outcome;

/// Our key and the certificate shown with it: self-signed at first, the target's afterwards.
pub struct Identity {
    key_pem: String,
    certificate: CertificateDer<'static>,
}

impl Identity {
    /// A new P-256 key with a self-signed certificate.
    pub fn generate() -> Outcome<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?.der().clone();
        Ok(Self { key_pem: key.serialize_pem(), certificate })
    }

    /// The same key with the certificate that the target signed for it.
    pub fn with_certificate(&self, pem: &str) -> Outcome<Self> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())?;
        if spki_of(&certificate)? != self.spki() {
            return Err("the certificate is for another key".into());
        }
        Ok(Self { key_pem: self.key_pem.clone(), certificate })
    }

    /// The PKCS#10 request: only its public key matters to the target.
    pub fn certificate_request(&self) -> Outcome<String> {
        let key = KeyPair::from_pem(&self.key_pem)?;
        Ok(CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?)
    }

    /// The public key, DER.
    pub fn spki(&self) -> Vec<u8> {
        spki_of(&self.certificate).unwrap_or_default()
    }

    /// The private key, PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// The public key of the target: what the check code is made of and what later connections are held
/// to.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetKey(Vec<u8>);

impl TargetKey {
    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.0
    }

    /// The same in hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// TLS 1.3 with our identity; `pinned` is the only key accepted, without it the first one seen is
/// reported.
pub fn client_config(
    identity: &Identity,
    pinned: Option<&TargetKey>,
) -> Outcome<(ClientConfig, Arc<Pin>)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let pin = Arc::new(Pin { provider: provider.clone(), key: Mutex::new(pinned.cloned()) });
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pin.clone())
        .with_client_auth_cert(vec![identity.certificate.clone()], key)?;
    Ok((config, pin))
}

/// Believes one public key, whoever signed its certificate.
#[derive(Debug)]
pub struct Pin {
    provider: Arc<CryptoProvider>,
    key: Mutex<Option<TargetKey>>,
}

impl Pin {
    /// The key that the target showed.
    pub fn key(&self) -> Option<TargetKey> {
        self.key.lock().ok()?.clone()
    }
}

impl std::fmt::Debug for TargetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = spki_of(certificate).map_err(|_| {
            rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding)
        })?;
        let mut key = self.key.lock().map_err(|_| rustls::Error::General("poisoned".to_owned()))?;
        match &*key {
            Some(known) if known.0 != shown => Err(rustls::Error::General(
                "the target's key has changed since the request was filed".to_owned(),
            )),
            _ => {
                *key = Some(TargetKey(shown));
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    // The proof that the target holds the key it shows: never skipped.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Compares the first certificate of a PEM text with the SHA-256 that the resolution announced.
pub fn check_sha256(pem: &str, announced: Option<&str>) -> Outcome<()> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())?;
    match announced {
        Some(announced) if announced == hex(&Sha256::digest(&certificate)) => Ok(()),
        _ => Err("a certificate differs from the one that was announced".into()),
    }
}

/// Sixteen random bytes.
pub fn random_bytes() -> Outcome<[u8; 16]> {
    let mut bytes = [0; 16];
    let provider = aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| "no randomness from the system")?;
    Ok(bytes)
}

fn spki_of(certificate: &[u8]) -> Outcome<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("a certificate cannot be read: {error}"))?;
    Ok(parsed.tbs_certificate.subject_pki.raw.to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
