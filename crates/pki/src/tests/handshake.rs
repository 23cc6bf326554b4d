//! Handshakes in memory: what the verifiers and the settings do, not what they say.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection, SignatureScheme,
};
use rustls_pki_types::CertificateDer;

use super::Target;
use crate::tls::{self, ClientIdentity, PinMismatch, Trust};
use crate::{Certificate, PrivateKey};

/// Who gave up, and why.
#[derive(Debug)]
enum Failed {
    Client(Error, Box<(ClientConnection, ServerConnection)>),
    Server(Error),
}

/// Carries bytes both ways until neither side has more to say.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Failed> {
    let mut client = ClientConnection::new(client, "target.example".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    client.writer().write_all(b"the first words of the source").unwrap();
    loop {
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        let mut rest = &said[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(Failed::Server)?;
        }
        let mut answered = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answered).unwrap();
        }
        let mut rest = &answered[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            if let Err(error) = client.process_new_packets() {
                return Err(Failed::Client(error, Box::new((client, server))));
            }
        }
        if said.is_empty() && answered.is_empty() {
            return Ok((client, server));
        }
    }
}

fn heard(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = vec![0; 1_024];
    let n_bytes = server.reader().read(&mut bytes).unwrap_or(0);
    bytes.truncate(n_bytes);
    bytes
}

/// Shows what it is told to, with whatever key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn showing(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Arc<ClientConfig> {
    let signer = tls::provider().key_provider.load_private_key(key.to_rustls()).unwrap();
    let mut config = ClientConfig::clone(
        &tls::client(ClientIdentity::None, Trust::FirstSight).unwrap().config(),
    );
    config.client_auth_cert_resolver = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, signer))));
    Arc::new(config)
}

fn certified(key: &PrivateKey, certificate: &Certificate, trust: Trust) -> Arc<ClientConfig> {
    tls::client(ClientIdentity::Certified(key, certificate), trust).unwrap().config()
}

#[test]
fn a_caller_is_known_by_the_key_it_showed() {
    let target = Target::new(1);
    let (key, certificate) = target.source();
    let trust = Trust::Pin(target.certificate.thumbprint());
    let server = tls::replication_server(&target.identity()).unwrap();
    let (client, mut server) = shake(certified(&key, &certificate, trust), server).unwrap();
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
    let caller = tls::presented(&server).unwrap().unwrap();
    assert_eq!(caller.spki(), key.spki());
    let callee = tls::presented(&client).unwrap().unwrap();
    assert_eq!(callee.spki(), target.key.spki());
    assert_eq!(heard(&mut server), b"the first words of the source");
}

#[test]
fn no_certificate_and_one_of_ones_own_making_are_both_let_in_to_be_judged() {
    let target = Target::new(2);
    let server = tls::replication_server(&target.identity()).unwrap();
    let nobody = tls::client(ClientIdentity::None, Trust::FirstSight).unwrap().config();
    let (_, seen) = shake(nobody, Arc::clone(&server)).unwrap();
    assert!(tls::presented(&seen).unwrap().is_none());

    let key = PrivateKey::generate().unwrap();
    let own = crate::self_signed(&key, super::NOW, &target.luck).unwrap();
    let (_, seen) = shake(certified(&key, &own, Trust::FirstSight), server).unwrap();
    assert_eq!(tls::presented(&seen).unwrap().unwrap().thumbprint(), own.thumbprint());
}

#[test]
fn the_operator_listener_never_asks_for_a_certificate() {
    let target = Target::new(3);
    let (key, certificate) = target.source();
    let server = tls::operator_server(&target.identity()).unwrap();
    let (_, seen) = shake(certified(&key, &certificate, Trust::FirstSight), server).unwrap();
    assert!(seen.peer_certificates().is_none());
}

#[test]
fn a_01_a_strangers_certificate_with_ones_own_signature_is_refused() {
    let target = Target::new(4);
    let (_, of_another) = target.source();
    let mine = PrivateKey::generate().unwrap();
    let server = tls::replication_server(&target.identity()).unwrap();
    let thief = showing(vec![of_another.as_der().clone()], &mine);
    match shake(thief, server) {
        Err(Failed::Server(Error::InvalidCertificate(rustls::CertificateError::BadSignature))) => {}
        other => panic!("a caller without the key was let in: {other:?}"),
    }
}

#[test]
fn a_server_without_the_key_it_shows_is_refused() {
    let target = Target::new(5);
    let thief = PrivateKey::generate().unwrap();
    let signer = tls::provider().key_provider.load_private_key(thief.to_rustls()).unwrap();
    let shown = CertifiedKey::new(vec![target.certificate.as_der().clone()], signer);
    let mut server = ServerConfig::clone(&tls::operator_server(&target.identity()).unwrap());
    server.cert_resolver = Arc::new(Shows(Arc::new(shown)));
    let trust = Trust::Pin(target.certificate.thumbprint());
    let client = tls::client(ClientIdentity::None, trust).unwrap().config();
    assert!(matches!(shake(client, Arc::new(server)), Err(Failed::Client(..))));
}

#[test]
fn f_04_long_chains_and_bytes_that_are_no_certificate_are_refused() {
    let target = Target::new(6);
    let (key, certificate) = target.source();
    let one = certificate.as_der().clone();
    let server = tls::replication_server(&target.identity()).unwrap();
    shake(showing(vec![one.clone(); 4], &key), Arc::clone(&server)).unwrap();
    let filler = CertificateDer::from(vec![0; 17_000]);
    for chain in [
        vec![one.clone(); 5],
        vec![one.clone(); 40],
        vec![one, filler.clone()],
        vec![filler],
        vec![CertificateDer::from(vec![0x30, 0])],
    ] {
        let n_certificates = chain.len();
        let result = shake(showing(chain, &key), Arc::clone(&server));
        assert!(matches!(result, Err(Failed::Server(_))), "{n_certificates} certificates");
    }
}

#[test]
fn a_05_another_key_aborts_and_hears_not_one_byte() {
    let (target, impostor) = (Target::new(7), Target::new(8));
    let (key, certificate) = target.source();
    let pinned = target.certificate.thumbprint();
    let server = tls::replication_server(&impostor.identity()).unwrap();
    let failed = shake(certified(&key, &certificate, Trust::Pin(pinned)), server).unwrap_err();
    let Failed::Client(error, mut both) = failed else {
        panic!("the server gave up first: {failed:?}");
    };
    let found = impostor.certificate.thumbprint();
    assert_eq!(PinMismatch::within(&error), Some(PinMismatch { pinned, found }));
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    assert_eq!(PinMismatch::within_io(&wrapped), Some(PinMismatch { pinned, found }));

    // Whatever the source still sends, an impostor who can read it reads an alert and nothing else:
    // neither a byte of the application nor the source's certificate.
    let (client, server) = &mut *both;
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).unwrap();
    }
    let mut rest = &said[..];
    let mut ended = None;
    while !rest.is_empty() && ended.is_none() {
        server.read_tls(&mut rest).unwrap();
        ended = server.process_new_packets().err();
    }
    assert!(matches!(ended, Some(Error::AlertReceived(_))), "{ended:?}");
    assert!(server.peer_certificates().is_none());
    assert_eq!(heard(server), b"");
}

#[test]
fn f_03_nothing_is_resumed_on_either_listener() {
    let target = Target::new(9);
    let (key, certificate) = target.source();
    for server in [
        tls::replication_server(&target.identity()).unwrap(),
        tls::operator_server(&target.identity()).unwrap(),
    ] {
        // A caller that would resume if it were given the means.
        let mut eager = ClientConfig::clone(&certified(&key, &certificate, Trust::FirstSight));
        eager.resumption = Resumption::in_memory_sessions(8);
        let eager = Arc::new(eager);
        for _ in 0..3 {
            let (client, server) = shake(Arc::clone(&eager), Arc::clone(&server)).unwrap();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.tls13_tickets_received(), 0);
            assert_ne!(server.handshake_kind(), Some(HandshakeKind::Resumed));
        }
        assert_eq!((server.max_early_data_size, server.send_tls13_tickets), (0, 0));
        assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    }
}

#[test]
fn f_03_our_caller_resumes_nothing_even_where_it_could() {
    let target = Target::new(10);
    let mut server = ServerConfig::clone(&tls::operator_server(&target.identity()).unwrap());
    server.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    server.send_tls13_tickets = 2;
    let server = Arc::new(server);
    let client = tls::client(ClientIdentity::None, Trust::FirstSight).unwrap().config();
    assert!(!client.enable_early_data);
    for _ in 0..3 {
        let (client, _) = shake(Arc::clone(&client), Arc::clone(&server)).unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// The library's own provider, older cipher suites and all: this test build has TLS 1.2 compiled
/// in.
fn unbridled() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[test]
fn f_03_a_caller_of_tls_1_2_is_refused_on_both_listeners() {
    let target = Target::new(11);
    let mut old = ClientConfig::builder_with_provider(unbridled())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    let old = Arc::new(old);
    for server in [
        tls::replication_server(&target.identity()).unwrap(),
        tls::operator_server(&target.identity()).unwrap(),
    ] {
        let failed = shake(Arc::clone(&old), server).unwrap_err();
        assert!(matches!(failed, Failed::Server(Error::PeerIncompatible(_))), "{failed:?}");
    }
}

#[test]
fn f_03_our_caller_refuses_a_server_of_tls_1_2() {
    let target = Target::new(12);
    let server = ServerConfig::builder_with_provider(unbridled())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(target.identity());
    let client = tls::client(ClientIdentity::None, Trust::FirstSight).unwrap().config();
    let failed = shake(client, Arc::new(server)).unwrap_err();
    assert!(matches!(failed, Failed::Server(Error::PeerIncompatible(_))), "{failed:?}");
}

#[test]
fn a_renewed_certificate_is_shown_from_the_next_handshake_on() {
    let target = Target::new(13);
    let identity = target.identity();
    let server = tls::operator_server(&identity).unwrap();
    let client = tls::client(ClientIdentity::None, Trust::Pin(target.certificate.thumbprint()))
        .unwrap()
        .config();
    let shown = || {
        let (client, _) = shake(Arc::clone(&client), Arc::clone(&server)).unwrap();
        tls::presented(&client).unwrap().unwrap().leaf().clone()
    };
    assert_eq!(shown(), target.certificate);
    let renewed = target
        .authority
        .issue_server(
            &target.key,
            offsite_model::CoreId::random(&target.luck),
            &[],
            crate::Validity::usual(super::NOW),
            &target.luck,
        )
        .unwrap();
    identity.replace(&target.key, &renewed).unwrap();
    assert_eq!(shown(), renewed);
    let other = PrivateKey::generate().unwrap();
    assert!(matches!(identity.replace(&other, &renewed), Err(tls::TlsError::Mismatch)));
    assert_eq!(shown(), renewed);
}
