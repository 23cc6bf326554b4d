//! Every request that passes, passes however it is cut; every doubtful one is refused however it is
//! cut.

use super::*;

fn verdict(request: &[u8], cut: usize) -> Result<(), Doubt> {
    let mut framing = Framing::new();
    request.chunks(cut).try_for_each(|part| framing.feed(part))
}

#[test]
fn plain_requests_pass_at_every_cut() {
    let long = format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\ncd{}",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \
        chunked\r\n\r\n3\r\na\nb\r\nA\r\n0123456789\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: \
        a\r\n\r\n";
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /%20?a=b HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        &long,
        chunked,
    ] {
        for cut in 1..=request.len() {
            assert_eq!(verdict(request.as_bytes(), cut), Ok(()), "{cut} {request:?}");
        }
    }
}

#[test]
fn a_body_of_many_chunks_is_no_large_head() {
    let mut framing = Framing::new();
    framing.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..HEAD_BYTES_MAX {
        framing.feed(b"1\r\na\r\n").unwrap();
    }
}

#[test]
fn e_18_doubtful_framing_is_refused_at_every_cut() {
    for doubtful in doubtful::HEADS {
        for cut in [1, 2, 3, 7, doubtful.len()] {
            assert!(
                verdict(doubtful, cut).is_err(),
                "{cut} {:?}",
                String::from_utf8_lossy(doubtful)
            );
        }
    }
    let huge = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert!(verdict(huge.as_bytes(), huge.len()).is_err());
}
