//! F-05 and the router's table over the wire: what a path means, and that a peer's text never
//! becomes one of ours.

use std::sync::atomic::Ordering;

use offsite_model::Luck;

use crate::support::*;

async fn status(
    scene: &Scene,
    source: Option<&Source>,
    method: &str,
    target: &str,
) -> (u16, String) {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let text = within(5, "an end", scene.exchange(source, request.as_bytes())).await;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, text)
}

#[tokio::test]
async fn paths_mean_what_the_table_says() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let slave = "/replicationcomms/slave";
    for (method, target, expected) in [
        ("GET", "/healthz".to_owned(), 200),
        ("GET", "/healthz/".to_owned(), 200),
        ("HEAD", "/healthz".to_owned(), 200),
        ("POST", "/healthz".to_owned(), 405),
        ("OPTIONS", "*".to_owned(), 400),
        ("GET", "/".to_owned(), 404),
        ("GET", "/replicationcomms".to_owned(), 404),
        ("GET", "/api/systems".to_owned(), 404),
        ("GET", format!("{slave}/agents"), 501),
        ("GET", format!("{slave}/agents/"), 501),
        ("GET", format!("{slave}/agents?view=storage"), 501),
        ("POST", format!("{slave}/newsession"), 501),
        ("POST", format!("{slave}/newsession/"), 501),
        ("POST", format!("{slave}/newsession//"), 400),
        ("GET", format!("{slave}//agents"), 400),
        ("GET", format!("{slave}/./agents"), 400),
        ("GET", format!("{slave}/agents/demand"), 405),
        ("DELETE", format!("{slave}/agents/all"), 405),
        ("GET", format!("{slave}/agents/{AGENT}"), 501),
        ("GET", format!("{slave}/agents/{}", AGENT.to_uppercase()), 501),
        ("GET", format!("{slave}/agents/nobody"), 400),
        ("GET", format!("{slave}/agents/%30{}", &AGENT[1..]), 501),
        ("GET", format!("{slave}/AGENTS"), 404),
        ("BREW", format!("{slave}/agents"), 405),
    ] {
        let (status, text) = status(&scene, Some(&source), method, &target).await;
        assert_eq!(status, expected, "{method} {target}: {text}");
        if status == 405 {
            assert!(text.to_lowercase().contains("\r\nallow: "), "{text}");
        }
    }
    let (_, text) = status(&scene, Some(&source), "PUT", &format!("{slave}/agents/{AGENT}")).await;
    assert!(text.contains("allow: GET, DELETE, HEAD\r\n"), "{text}");
}

#[tokio::test]
async fn versions_are_negotiated_or_refused() {
    let scene = scene(usual()).await;
    for (header, expected) in [
        ("", 202),
        ("Offsite-Protocol: 1\r\n", 202),
        ("Offsite-Protocol: 2\r\n", 426),
        ("Offsite-Protocol: x\r\n", 400),
        ("Offsite-Protocol: 1\r\nOffsite-Protocol: 1\r\n", 400),
    ] {
        let body = r#"{"text":"a"}"#;
        let request = format!(
            "POST /replicationcomms/test/submit HTTP/1.1\r\nHost: a\r\n{header}Connection: \
                close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let text = scene.exchange(None, request.as_bytes()).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {expected} ")), "{header}: {text}");
        if expected == 426 {
            assert!(text.contains(r#""max":1"#) && text.contains("upgrade: Offsite/1"), "{text}");
        }
    }
}

#[tokio::test]
async fn bodies_say_what_they_are() {
    let scene = scene(usual()).await;
    let body = r#"{"text":"a"}"#;
    for (headers, expected) in [
        ("Content-Type: application/json\r\n", 202),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", 202),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("", 415),
        ("Content-Type: application/json\r\nContent-Type: text/plain\r\n", 415),
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", 415),
        ("Content-Type: application/json\r\nContent-Encoding: identity\r\n", 415),
    ] {
        let request = format!(
            "POST /replicationcomms/test/submit HTTP/1.1\r\nHost: a\r\n{headers}Connection: \
                close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let text = scene.exchange(None, request.as_bytes()).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {expected} ")), "{headers}: {text}");
    }
}

#[tokio::test]
async fn an_empty_first_post_meets_the_challenge_and_not_the_parser() {
    let scene = scene(usual()).await;
    for body in ["", "{broken", r#"{"text":1}"#] {
        let request = format!(
            "POST /replicationcomms/test/challenged HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let text = scene.exchange(None, request.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
        assert!(text.contains("www-authenticate: NTLM\r\n"), "{text}");
    }
}

#[tokio::test]
async fn no_byte_of_a_body_is_read_before_the_gate() {
    let scene = scene(usual()).await;
    // The body never comes; a reader that wanted it would wait.
    let request = format!(
        "POST /replicationcomms/test/{AGENT}/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 60000\r\n\r\n"
    );
    let text = within(5, "the refusal", scene.exchange(None, request.as_bytes())).await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    assert_eq!(scene.state.n_bodies.load(Ordering::Relaxed), 0);
}

/// Two hundred ways to write a way out of a folder: each piece, in each place, in each spelling.
fn payloads() -> Vec<String> {
    let pieces = [
        "../",
        "..%2f",
        "..%2F",
        "%2e%2e/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..\\",
        "..%5c",
        "%2e%2e%5c",
        "%c0%ae%c0%ae/",
        "%c0%af",
        "%e0%80%af",
        "%f0%80%80%af",
        "..%c1%9c",
        "%00",
        "a%00.dll",
        "/",
        "//",
        "\\\\host\\share\\",
        "%5c%5chost%5cshare",
        "//host/share/",
        "C:%5c",
        "C:/",
        "./",
        "%2e/",
        "....//",
        "..;/",
        "%uff0e%uff0e/",
        "%ef%bc%8e%ef%bc%8e%ef%bc%8f",
        "%0d%0aHost:%20b",
        "%0a",
        "%1b[2J",
        "~/",
        "$HOME/",
        "%",
        "%2",
        "%zz",
        "%%32%65",
        "%e2%80%ae",
        "CON",
        ".",
        "..",
        "%2e",
        "%2e%2e",
    ];
    let luck = Seeded::new(5);
    let mut payloads: Vec<String> = Vec::new();
    for piece in pieces {
        let tail = ["etc/passwd", "x.dll"][usize::from(luck.below(2) == 1)];
        payloads.push(piece.to_owned());
        payloads.push(piece.repeat(4));
        payloads.push(format!("{piece}{tail}"));
        payloads.push(format!("{}{tail}", piece.repeat(3)));
        payloads.push(format!("x.dll{piece}"));
    }
    payloads
}

#[tokio::test]
async fn f_05_no_payload_reaches_a_handler_as_a_path() {
    let scene = scene(usual()).await;
    let source = scene.paired();
    let payloads = payloads();
    assert!(payloads.len() >= 200, "{}", payloads.len());
    let mut n_names = 0;
    for payload in &payloads {
        // As a name that may be any text: what arrives has no separator, no NUL, no dots alone.
        let target = format!("/replicationcomms/test/file/{payload}");
        let (code, text) = status(&scene, Some(&source), "GET", &target).await;
        match code {
            200 => {
                n_names += 1;
                let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
                let said: Said = serde_json::from_str(body).unwrap();
                let bad =
                    said.text.contains(['/', '\\']) || said.text.chars().any(char::is_control);
                assert!(
                    !bad && !matches!(said.text.as_str(), "" | "." | ".."),
                    "{payload}: {said:?}"
                );
            }
            0 | 400 | 404 => {}
            code => panic!("{payload}: {code} {text}"),
        }
        // As an id: never.
        let target = format!("/replicationcomms/slave/agents/{payload}/rps");
        let (code, text) = status(&scene, Some(&source), "GET", &target).await;
        assert!(matches!(code, 0 | 400 | 404), "{payload}: {code} {text}");
    }
    assert_eq!(scene.state.n_handled.load(Ordering::Relaxed), n_names);
}
