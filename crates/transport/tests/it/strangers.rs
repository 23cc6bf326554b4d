//! F-12: what an error tells a stranger. A code, its fixed sentence, the number of the request.

use offsite_model::Luck;

use crate::support::*;

/// What must never be in an error that a stranger gets.
const LEAKS: [&str; 21] = [
    "/var/",
    "/etc/",
    "/home/",
    "/root/",
    ".rs:",
    "src/",
    "panicked",
    "deliberate",
    "RUST",
    "stack",
    "10.0.0.7",
    "127.0.0.1",
    "hyper",
    "rustls",
    "serde",
    "tokio",
    "expected",
    "line 1",
    "column",
    "thumbprint",
    "offsite 0.",
];

const TOO_LARGE: &str = "POST /replicationcomms/test/submit HTTP/1.1\r\nHost: a\r\n\
    Content-Type: application/json\r\nContent-Length: 99999\r\n\r\n";

fn request(luck: &dyn Luck, n: u64) -> String {
    let pick = |of: &[&str]| of[usize::try_from(luck.below(of.len() as u64)).unwrap()].to_owned();
    let method = pick(&["GET", "POST", "PUT", "DELETE", "PATCH", "BREW"]);
    let target = pick(&[
        "/replicationcomms/test/submit",
        "/replicationcomms/test/panic",
        "/replicationcomms/test/00112233-4455-6677-8899-aabbccddeeff/echo",
        "/replicationcomms/test/x/echo",
        "/replicationcomms/slave/agents",
        "/replicationcomms/slave/agents/%2e%2e",
        "/replicationcomms/slave/pairing/request",
        "/replicationcomms/slave/validate?useCredentials=maybe",
        "/nowhere",
    ]);
    let body = pick(&[
        "",
        "{",
        "[]",
        "null",
        r#"{"text":1}"#,
        r#"{"text":"a","text":"b"}"#,
        "\u{0}",
        r#"{"x":{}}"#,
    ]);
    let media = pick(&["application/json", "text/plain", "x", "application/json; a=b"]);
    let extra = pick(&["", "Offsite-Protocol: 9\r\n", "Content-Encoding: br\r\n", "X: a\r\n"]);
    format!(
        "{method} {target} HTTP/1.1\r\nHost: h{n}\r\nConnection: close\r\nContent-Type: \
            {media}\r\n{extra}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn f_12_errors_tell_strangers_a_code_and_a_number() {
    let scene = scene(usual()).await;
    let seed = 12;
    let luck = Seeded::new(seed);
    let stranger = Source::new();
    let mut n_errors = 0;
    for n in 0..600 {
        // Now and then a length above the limit: a refusal that has facts to hide.
        let request = if n % 10 == 0 { TOO_LARGE.to_owned() } else { request(&*luck, n) };
        let source = (n % 2 == 0).then_some(&stranger);
        let text = within(5, "an end", scene.exchange(source, request.as_bytes())).await;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if head.starts_with("HTTP/1.1 2") {
            continue;
        }
        n_errors += 1;
        let leak = LEAKS.iter().find(|leak| text.contains(**leak));
        assert_eq!(leak, None, "seed {seed}, {request:?}: {text}");
        let error: serde_json::Value = serde_json::from_str(body).unwrap();
        let error = error["error"].as_object().unwrap();
        let detail = error["detail"].as_object().unwrap();
        let numbered = detail["requestId"].as_str().is_some_and(|id| head.contains(id));
        assert!(numbered, "seed {seed}: {text}");
        let extra = detail.keys().find(|key| !matches!(key.as_str(), "requestId" | "min" | "max"));
        assert_eq!(extra, None, "seed {seed}: {text}");
    }
    assert!(n_errors > 400, "seed {seed}: {n_errors}");
}

#[tokio::test]
async fn a_known_caller_reads_what_is_wrong() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let connection = scene.dial(Some(&source)).await.unwrap();
    let long = said(&"a".repeat(20 << 10));
    let error = connection.call::<Submit>(&(), &long).await.unwrap_err().to_string();
    assert!(error.contains("larger than 16384 bytes"), "{error}");
}
