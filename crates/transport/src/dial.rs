//! Where a target is, and every way in which reaching it fails, told apart in an operator's words.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use offsite_pki::tls::PinMismatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Bytes of a host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

/// A text that names no host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// It begins with `http:`.
    #[error("a target is reached by https, not by http")]
    PlainHttp,
    /// It has a path or a query.
    #[error("name only the host and the port of the target, without a path")]
    Path,
    /// The port is missing or no port.
    #[error("name the port of the target, as in host:8443")]
    Port,
    /// The host is missing or no host.
    #[error("this is not the name or the address of a host")]
    Host,
}

impl HostPort {
    /// This host at this port. An IPv6 address stands without brackets.
    ///
    /// # Errors
    /// [`HostPortError::Host`] where the host is no name and no address.
    pub fn new(host: &str, port: u16) -> Result<Self, HostPortError> {
        let is_name = !host.is_empty()
            && host.len() <= HOST_BYTES_MAX
            && !host.starts_with(['-', '.'])
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if !is_name && host.parse::<IpAddr>().is_err() {
            return Err(HostPortError::Host);
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    /// Reads `host:port`, `[address]:port`, and both after `https://`.
    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let text = text.trim();
        if text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://")) {
            return Err(HostPortError::PlainHttp);
        }
        let secure = text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
        let text = if secure { text.get(8..).unwrap_or_default() } else { text };
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.contains(['/', '?', '#']) {
            return Err(HostPortError::Path);
        }
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError::Port)?;
        let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(HostPortError::Host),
            // `::1` and the like without brackets: nobody knows where the port begins.
            None if host.contains(':') => return Err(HostPortError::Port),
            None => host,
        };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if port > 0 && is_number => Self::new(host, port),
            _ => Err(HostPortError::Port),
        }
    }
}

/// A connection that was not made. Each sentence says what to look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address.
    #[error("cannot find the host {host}: the name has no address here ({cause})")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// Nothing listens at the port.
    #[error("nothing listens at {target}: is the target running, and is this its port?")]
    Refused {
        /// Where.
        target: HostPort,
    },
    /// The host cannot be reached.
    #[error("cannot reach {target}: {cause}")]
    Unreachable {
        /// Where.
        target: HostPort,
        /// What the system said.
        cause: io::Error,
    },
    /// No answer in time: as a rule a firewall, or a wrong address.
    #[error("{target} did not answer within {} s while {stage}: wrong address, or a firewall \
        drops the packets", within.as_secs())]
    TimedOut {
        /// Where.
        target: HostPort,
        /// What was being done.
        stage: &'static str,
        /// The time it had.
        within: Duration,
    },
    /// The port speaks HTTP without TLS.
    #[error("the port {} of {} speaks plain http, not https: this is not a port of a \
        target", target.port(), target.host())]
    PlainHttp {
        /// Where.
        target: HostPort,
    },
    /// The port speaks something that is no TLS.
    #[error("the port {} of {} does not speak tls: this is not a port of a \
        target", target.port(), target.host())]
    NotTls {
        /// Where.
        target: HostPort,
    },
    /// The host hung up during the handshake.
    #[error(
        "{target} closed the connection during the handshake: the target is busy or stopping, or \
            this is not a port of a target"
    )]
    HungUp {
        /// Where.
        target: HostPort,
    },
    /// Another key than the pinned one answered. Nothing was sent.
    #[error(
        "{target} is not the target that was paired with: {mismatch}; the target was set up anew, \
            or somebody stands between; nothing was sent"
    )]
    PinMismatch {
        /// Where.
        target: HostPort,
        /// Both keys.
        mismatch: PinMismatch,
    },
    /// TLS is spoken, and both sides do not come together.
    #[error("cannot agree on a tls connection with {target}: {cause}")]
    Tls {
        /// Where.
        target: HostPort,
        /// What the library said.
        cause: io::Error,
    },
    /// The connection stands and HTTP does not begin.
    #[error("cannot begin to speak http with {target}: {cause}")]
    Http {
        /// Where.
        target: HostPort,
        /// What the library said.
        cause: hyper::Error,
    },
}

impl DialError {
    /// Whether dialling again may help without anybody changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::PlainHttp { .. } | Self::NotTls { .. } | Self::PinMismatch { .. })
    }
}

/// Finds the host and connects to the first of its addresses that answers; how long that one took.
pub(crate) async fn connect(
    target: &HostPort,
    within: Duration,
) -> Result<(TcpStream, Duration), DialError> {
    let attempt = async {
        let addresses = resolve(target).await?;
        let mut last = None;
        // Each address gets its share of the time, so a dead one does not cost the others theirs.
        let share = within / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        for address in addresses {
            let begun = tokio::time::Instant::now();
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, begun.elapsed())),
                Ok(Err(cause)) => last = Some(cause),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(unreachable(target, within, last))
    };
    match tokio::time::timeout(within, attempt).await {
        Ok(connected) => connected,
        Err(_) => Err(unreachable(target, within, Some(io::ErrorKind::TimedOut.into()))),
    }
}

async fn resolve(target: &HostPort) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let fault = |cause| DialError::Name { host: target.host.clone(), cause };
    let addresses: Vec<_> = found.map_err(fault)?.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(fault(io::Error::from(io::ErrorKind::NotFound)));
    }
    Ok(addresses)
}

fn unreachable(target: &HostPort, within: Duration, last: Option<io::Error>) -> DialError {
    let target = target.clone();
    let cause = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused { target },
        io::ErrorKind::TimedOut => DialError::TimedOut { target, stage: "connecting", within },
        _ => DialError::Unreachable { target, cause },
    }
}

/// Says why a handshake failed, from the library's error and the first bytes that the peer sent.
pub(crate) fn handshake_failed(target: &HostPort, cause: io::Error, first: &[u8]) -> DialError {
    let target = target.clone();
    if let Some(mismatch) = PinMismatch::within_io(&cause) {
        return DialError::PinMismatch { target, mismatch };
    }
    // A record of TLS begins with its type, 20 to 24, and the major version 3.
    let is_tls = matches!(first, [20..=24] | [20..=24, 3, ..]);
    match first {
        [] => DialError::HungUp { target },
        _ if first.starts_with(b"HTTP/") => DialError::PlainHttp { target },
        _ if !is_tls => DialError::NotTls { target },
        _ if is_cut(&cause) => DialError::HungUp { target },
        _ => DialError::Tls { target, cause },
    }
}

fn is_cut(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A stream that remembers the first bytes that came in: they tell plain HTTP from TLS.
#[derive(Debug)]
pub(crate) struct Remembering<T> {
    inner: T,
    first: Vec<u8>,
}

const REMEMBERED_BYTES: usize = 8;

impl<T> Remembering<T> {
    pub(crate) const fn new(inner: T) -> Self {
        Self { inner, first: Vec::new() }
    }

    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Remembering<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        let room = REMEMBERED_BYTES.saturating_sub(this.first.len());
        if room > 0 {
            let fresh = buffer.filled().get(before..).unwrap_or_default();
            this.first.extend(fresh.iter().take(room));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Remembering<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_in_its_usual_forms() {
        for (text, host, port) in [
            ("target.example:8443", "target.example", 8443),
            ("https://target.example:8443/", "target.example", 8443),
            ("HTTPS://10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:8443", "::1", 8443),
        ] {
            assert_eq!(text.parse(), HostPort::new(host, port), "{text}");
        }
        assert_eq!("[::1]:8443".parse::<HostPort>().unwrap().to_string(), "[::1]:8443");
        for (text, error) in [
            ("http://target.example:80", HostPortError::PlainHttp),
            ("target.example", HostPortError::Port),
            ("target.example:0", HostPortError::Port),
            ("target.example:+1", HostPortError::Port),
            ("target.example:65536", HostPortError::Port),
            ("::1:8443", HostPortError::Port),
            ("target.example:8443/a", HostPortError::Path),
            (":8443", HostPortError::Host),
            ("a b:1", HostPortError::Host),
            ("user@host:1", HostPortError::Host),
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(error), "{text}");
        }
    }
}
