//! E-18 and E-05: requests that two readers could read in two ways get one answer at most, and no
//! length is believed.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

#[path = "../../src/tests/doubtful.rs"]
mod doubtful;

fn n_answers(text: &str) -> usize {
    text.matches("HTTP/1.").count()
}

#[tokio::test]
async fn e_18_doubtful_requests_get_an_error_or_nothing() {
    let scene = scene(short()).await;
    let source = scene.paired();
    for doubtful in doubtful::HEADS {
        let shown = String::from_utf8_lossy(doubtful);
        for cut in [doubtful.len(), 1, 11] {
            let mut stream = scene.raw(Some(&source), b"http/1.1").await;
            for part in doubtful.chunks(cut) {
                if stream.write_all(part).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
            let text = within(15, "an end", read_all(&mut stream)).await;
            assert!(n_answers(&text) <= 1, "{shown:?} had two answers: {text}");
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{shown:?}: {text}");
        }
    }
}

#[tokio::test]
async fn e_18_a_request_that_hides_behind_a_refused_body_is_not_answered() {
    let scene = scene(short()).await;
    let hidden = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    for (head, body) in [
        // Refused by route, gate, encoding, media type and length: the body stays unread each time.
        ("POST /nowhere HTTP/1.1\r\nHost: a\r\n", hidden),
        ("POST /replicationcomms/slave/newsession HTTP/1.1\r\nHost: a\r\n", hidden),
        (
            "POST /replicationcomms/test/submit HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n",
            hidden,
        ),
        (
            "POST /replicationcomms/test/submit HTTP/1.1\r\nHost: a\r\nContent-Type: \
                text/plain\r\n",
            hidden,
        ),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n", hidden),
    ] {
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let text = within(15, "an end", scene.exchange(None, request.as_bytes())).await;
        assert_eq!(n_answers(&text), 1, "{head:?}: {text}");
        assert!(text.starts_with("HTTP/1.1 4"), "{head:?}: {text}");
    }
}

#[tokio::test]
async fn e_18_plain_requests_one_behind_the_other_are_answered_each() {
    let scene = scene(short()).await;
    let twice = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let text = scene.exchange(None, twice).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

#[tokio::test]
async fn e_18_plain_http_on_the_tls_port_is_not_answered() {
    let scene = scene(short()).await;
    for request in
        [&b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut tcp = TcpStream::connect(scene.address).await.unwrap();
        tcp.write_all(request).await.unwrap();
        let text = within(5, "an end", read_all(&mut tcp)).await;
        assert!(!text.contains("HTTP"), "{text}");
    }
}

#[tokio::test]
async fn e_18_a_protocol_other_than_agreed_is_not_answered() {
    let scene = scene(short()).await;
    // HTTP/1.1 where HTTP/2 was agreed, and the reverse.
    let mut stream = scene.raw(None, b"h2").await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let text = within(5, "an end", read_all(&mut stream)).await;
    assert!(!text.contains("200"), "{text}");
    let text = within(5, "an end", scene.exchange(None, crate::silence::PREFACE)).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
}

fn peak_kib() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the kernel's count of this process's memory")]
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn e_05_no_declared_length_is_believed() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let before = peak_kib();
    let lengths = [
        "65537",
        "2147483648",
        "4294967295",
        "4294967296",
        "999999999999999",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "007",
        "+7",
        "0x10",
        "1e3",
        "1.0",
        "",
        "\u{0661}",
    ];
    for path in ["submit", &format!("{AGENT}/echo")] {
        for length in lengths {
            let request = format!(
                "POST /replicationcomms/test/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: \
                    application/json\r\n\
                 Content-Length: {length}\r\n\r\n"
            );
            let text = within(5, "an end", scene.exchange(Some(&source), request.as_bytes())).await;
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{length}: {text}");
        }
        for size in
            ["FFFFFFFF", "80000000", "7FFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF", "10000000000000000"]
        {
            let mut stream = scene.raw(Some(&source), b"http/1.1").await;
            let request = format!(
                "POST /replicationcomms/test/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: \
                    application/json\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{size}\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            // A size within the digits that are read is met with bytes, until the limit of the row.
            for _ in 0..40 {
                if stream.write_all(&[b' '; 4096]).await.is_err() {
                    break;
                }
            }
            let _ = stream.flush().await;
            let text = within(5, "an end", read_all(&mut stream)).await;
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{size}: {text}");
        }
    }
    // Address space, so that a length that is merely reserved counts too.
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 1 << 20, "address space has grown by {grown} KiB");
}

#[tokio::test]
async fn e_05_heads_are_bounded_on_http2_too() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    for (n_headers, bytes) in [(1, 20 << 10), (65, 1), (600, 100)] {
        let mut headers = http::HeaderMap::new();
        for n in 0..n_headers {
            let name = http::HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
            headers.insert(name, http::HeaderValue::from_str(&"a".repeat(bytes)).unwrap());
        }
        let refused = connection.call_with::<Read>(&agent(), &(), headers).await;
        assert!(refused.is_err(), "{n_headers} x {bytes}");
    }
    assert!(scene.dial(Some(&source)).await.unwrap().call::<Read>(&agent(), &()).await.is_ok());
}
