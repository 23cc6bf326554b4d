//! HTTP/1.1 by hand: one request after another over one TLS connection.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use offsite_proto::endpoint::{Body, Endpoint, Media, Params as _, Segment, Values};
use offsite_proto::error::{ErrorBody, Refusal};
use offsite_proto::json;
use offsite_proto::limits::{HEADERS_MAX, JSON_BYTES_MAX};
use offsite_proto::version::ProtocolVersion;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::Outcome;
use crate::tls::{Identity, TargetKey, client_config};

const DEADLINE: Duration = Duration::from_secs(20);

/// A connection to a target.
pub struct Connection {
    host: String,
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// What the target answered.
pub struct Answer<T> {
    /// The body, or the target's refusal.
    pub result: Result<T, Refusal>,
    /// When to ask again, where it said so.
    pub retry_after_secs: Option<u32>,
}

impl Connection {
    /// Connects and shakes hands; with a pin, any other key ends it before a byte of ours is sent.
    pub fn open(
        address: &str,
        identity: &Identity,
        pinned: Option<&TargetKey>,
    ) -> Outcome<(Self, TargetKey)> {
        let (host, _) =
            address.rsplit_once(':').ok_or("the address is not of the form HOST:PORT")?;
        let (config, pin) = client_config(identity, pinned)?;
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let mut tls = ClientConnection::new(Arc::new(config), name)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        let key = pin.key().ok_or("the target showed no key")?;
        let stream = BufReader::new(StreamOwned::new(tls, socket));
        Ok((Self { host: address.to_owned(), stream }, key))
    }

    /// One call of the table.
    pub fn call<E: Endpoint>(
        &mut self,
        params: &E::Params,
        request: &E::Request,
    ) -> Outcome<Answer<E::Response>> {
        let body = request.encode();
        let media = match E::Request::MEDIA {
            Media::Json => "Content-Type: application/json\r\n",
            _ => "",
        };
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nOffsite-Protocol: {}\r\n{media}Content-Length: \
                {}\r\n\r\n",
            E::ROW.method,
            target_of::<E>(params),
            self.host,
            ProtocolVersion::NEWEST.number(),
            body.len(),
        );
        let stream = self.stream.get_mut();
        stream.write_all(&[head.into_bytes(), body].concat())?;
        stream.flush()?;
        self.answer()
    }

    fn answer<T: Body>(&mut self) -> Outcome<Answer<T>> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
        let status = status.ok_or_else(|| format!("not an answer of HTTP: {status_line:?}"))?;
        let (mut n_bytes, mut retry_after_secs) = (0, None);
        for _ in 0..HEADERS_MAX {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => n_bytes = value.trim().parse::<u64>()?,
                "retry-after" => retry_after_secs = value.trim().parse().ok(),
                "transfer-encoding" => return Err("an answer without a length".into()),
                _ => {}
            }
        }
        if n_bytes > JSON_BYTES_MAX {
            return Err("the answer is too large".into());
        }
        let mut body = Vec::new();
        self.stream.by_ref().take(n_bytes).read_to_end(&mut body)?;
        let result = match status {
            200..=299 => T::decode(&body),
            _ => Err(json::from_slice::<ErrorBody>(&body)?.error),
        };
        Ok(Answer { result, retry_after_secs })
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.stream.by_ref().take(4096).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err("the target hung up".into()),
        }
    }
}

/// Path and query of a call. Our values are ids and numbers, so nothing needs escaping.
fn target_of<E: Endpoint>(params: &E::Params) -> String {
    let mut values = Values::new();
    params.write(&mut values);
    let path: Vec<&str> = E::ROW
        .segments()
        .map(|segment| match segment {
            Segment::Literal(text) => text,
            Segment::Parameter(name) => values.find(name).unwrap_or_default(),
        })
        .collect();
    let query: Vec<String> = E::ROW
        .query
        .iter()
        .filter_map(|name| values.find(name).map(|value| format!("{name}={value}")))
        .collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("/{}{query}", path.join("/"))
}
