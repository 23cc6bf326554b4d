//! The bytes of one connection on their way to and from the HTTP library, watched and never
//! changed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::Framing;
use crate::pulse::Pulse;

/// A stream whose incoming HTTP/1.1 framing is checked, and of whose writes the pulse is told.
#[derive(Debug)]
pub(crate) struct Wire<T> {
    inner: T,
    pulse: Arc<Pulse>,
    framing: Option<Framing>,
}

impl<T> Wire<T> {
    /// A stream of HTTP/2 frames, which the library checks.
    pub(crate) const fn http2(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, framing: None }
    }

    /// A stream of HTTP/1.1, which is checked here.
    pub(crate) const fn http1(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, framing: Some(Framing::new()) }
    }

    fn wrote<R>(&self, polled: Poll<R>) -> Poll<R> {
        self.pulse.wrote(polled.is_ready());
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        if let Some(framing) = &mut this.framing {
            let fresh = buffer.filled().get(before..).unwrap_or_default();
            if let Err(doubt) = framing.feed(fresh) {
                tracing::debug!(cause = doubt, "the framing of a connection is in doubt");
                buffer.set_filled(before);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, doubt)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.wrote(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write_vectored(context, bytes);
        this.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_flush(context);
        this.wrote(polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_shutdown(context);
        this.wrote(polled)
    }
}
