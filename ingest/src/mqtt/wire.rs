//! Reading and writing one connection's bytes. A connection that is idle holds no buffer: bytes are read into a buffer of
//! the thread and copied only when there are some.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once; about a hundred publishes of one event.
const READ_BYTES: usize = 64 * 1024;

/// A buffer above this is given back when it is empty, so that one burst does not stay with an idle connection.
const KEPT_BYTES_MAX: usize = 256;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What happened on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Read,
    Wrote,
    Ended,
}

/// A stream with the bytes that came and those that wait to go.
pub struct Wire<S> {
    stream: S,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new(), written: 0, unflushed: false }
    }

    /// Bytes that the peer has not taken yet.
    pub fn waiting(&self) -> usize {
        self.output.len() - self.written
    }

    /// Moves bytes in whichever direction can move; reads only when `read` says so. Cancelling it loses nothing.
    pub async fn progress(&mut self, read: bool) -> io::Result<Progress> {
        poll_fn(|cx| self.poll_progress(cx, read)).await
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Result<Progress>> {
        let before = self.waiting();
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        if self.waiting() < before {
            return Poll::Ready(Ok(Progress::Wrote));
        }
        if read {
            let count = ready!(self.poll_receive(cx))?;
            return Poll::Ready(Ok(if count == 0 { Progress::Ended } else { Progress::Read }));
        }
        Poll::Pending
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (stream, input) = (&mut self.stream, &mut self.input);
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    input.extend_from_slice(buffer.filled());
                    Poll::Ready(Ok(buffer.filled().len()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => {
                    if input.is_empty() && input.capacity() > KEPT_BYTES_MAX {
                        *input = Vec::new();
                    }
                    Poll::Pending
                }
            }
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.unflushed = true;
        }
        self.written = 0;
        self.output.clear();
        if self.output.capacity() > KEPT_BYTES_MAX {
            self.output = Vec::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits and ends the connection in order. The caller bounds the time.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await?;
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }
}
