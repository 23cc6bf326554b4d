//! Failures to reach a target, told apart in an operator's words.

use std::time::Duration;

use offsite_pki::tls::{self, ClientIdentity, Trust};
use offsite_transport::{Connection, DialError, HostPort, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A listener that says these bytes to whoever connects.
async fn saying(bytes: &'static [u8], then_close: bool) -> HostPort {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept: Vec<TcpStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 2048];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(bytes).await;
            if !then_close {
                kept.push(stream);
            }
        }
    });
    HostPort::new("127.0.0.1", port).unwrap()
}

async fn dial(target: &HostPort) -> DialError {
    let tls = tls::client(ClientIdentity::None, Trust::FirstSight).unwrap();
    let short = Duration::from_millis(500);
    let timeouts = Timeouts { connect: Duration::from_secs(5), handshake: short, answer: short };
    within(10, "a failure", Connection::dial(target, &tls, &timeouts)).await.unwrap_err()
}

#[tokio::test]
async fn each_failure_has_its_own_words() {
    let closed = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = dial(&HostPort::new("127.0.0.1", closed).unwrap()).await;
    assert!(matches!(error, DialError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("is the target running"), "{error}");

    let error = dial(&HostPort::new("no-such-host.invalid", 1).unwrap()).await;
    assert!(matches!(error, DialError::Name { .. }), "{error:?}");

    let error = dial(&saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await).await;
    assert!(matches!(error, DialError::PlainHttp { .. }), "{error:?}");
    assert!(error.to_string().contains("plain http"), "{error}");
    assert!(!error.is_retryable());

    let error = dial(&saying(b"SSH-2.0-OpenSSH_9.6\r\n", true).await).await;
    assert!(matches!(error, DialError::NotTls { .. }), "{error:?}");

    let error = dial(&saying(b"", true).await).await;
    assert!(matches!(error, DialError::HungUp { .. }), "{error:?}");

    let error = dial(&saying(b"", false).await).await;
    assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn another_key_is_refused_before_a_byte_is_sent() {
    let scene = scene(usual()).await;
    let other = Source::new().thumbprint();
    let tls = tls::client(ClientIdentity::None, Trust::Pin(other)).unwrap();
    let dialled = Connection::dial(&scene.target(), &tls, &Timeouts::default()).await;
    match dialled.map(|_| ()) {
        Err(DialError::PinMismatch { mismatch, .. }) => {
            assert_eq!((mismatch.pinned, mismatch.found), (other, scene.pin));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_is_found_and_an_answer_in_time_is_demanded() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let target = HostPort::new("localhost", scene.address.port()).unwrap();
    let timeouts = Timeouts { answer: Duration::from_millis(300), ..Timeouts::default() };
    let connection = Connection::dial(&target, &scene.tls(Some(&source)), &timeouts).await.unwrap();
    assert!(connection.call::<Read>(&agent(), &()).await.is_ok());
    let error = connection.call::<Change>(&(), &said("a")).await.unwrap_err();
    assert!(error.to_string().contains("did not answer within"), "{error}");
    assert_eq!(error.retry(), offsite_transport::Retry::Later(None));
}
