//! The messages of one connection, one after the other, each bounded before it is held.
//!
//! The library would hold a message of one GiB before the password, and any number of bytes of one that is not complete. Here a
//! connection holds at most [`STRANGER_BYTES_MAX`] of a message until somebody has signed in, and [`MESSAGE_BYTES_MAX`] after it; a longer
//! one ends it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, PgWireConnectionState, PgWireServerHandlers};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::pgwire::tokio::server::{negotiate_tls, process_error, process_message};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, FramedParts};

use super::connection::Handlers;

/// How long a client may take to sign in.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest message before the sign-in: a user, a database, a password.
const STRANGER_BYTES_MAX: usize = 16 * 1024;

/// Longest message after it: the longest text of a query, and values of its parameters as at the door of Flight SQL.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Serves until the client goes, or is sent away.
pub async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, handlers: Handlers) -> io::Result<()> {
    let mut sign_in_ends = pin!(tokio::time::sleep(SIGN_IN_TIMEOUT));
    let negotiated = tokio::select! {
        () = &mut sign_in_ends => return Ok(()),
        negotiated = negotiate_tls(stream, tls) => negotiated?,
    };
    let Some(negotiated) = negotiated else { return Ok(()) };
    if negotiated.is_secure() && !negotiated.read_buffer().is_empty() {
        // Written before there was TLS, by whoever stands between.
        return Ok(());
    }
    let old = negotiated.into_parts();
    let mut parts = FramedParts::new::<PgWireBackendMessage>(Bounded::new(old.io), old.codec);
    (parts.read_buf, parts.write_buf) = (old.read_buf, old.write_buf);
    let mut socket = Framed::from_parts(parts);
    loop {
        let is_stranger =
            matches!(socket.state(), PgWireConnectionState::AwaitingStartup | PgWireConnectionState::AuthenticationInProgress);
        let (held, held_max) = (socket.read_buffer().len(), if is_stranger { STRANGER_BYTES_MAX } else { MESSAGE_BYTES_MAX });
        socket.get_mut().expect(held, held_max);
        let message = tokio::select! {
            () = &mut sign_in_ends, if is_stranger => None,
            message = socket.next() => message,
        };
        let message = match message {
            Some(Ok(PgWireFrontendMessage::Terminate(_))) | None => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(_)) if socket.get_ref().is_exceeded() => return process_error(&mut socket, too_long(held_max), false).await,
            Some(Err(error)) => return Err(io::Error::other(error)),
        };
        let is_extended = message.is_extended_query();
        // Before the sign-in, and after an error until the client has noticed it, nothing is kept.
        let is_heard = !is_stranger && !matches!(socket.state(), PgWireConnectionState::AwaitingSync);
        let admitted = if is_heard { handlers.0.kept.lock().admit(socket.portal_store(), &message) } else { Ok(None) };
        let (startup, simple, extended) = (handlers.startup_handler(), handlers.simple_query_handler(), handlers.extended_query_handler());
        let processed = match admitted {
            Ok(wish) => {
                let (copy, cancel) = (handlers.copy_handler(), handlers.cancel_handler());
                let processed = process_message(message, &mut socket, startup, simple, extended, copy, cancel).await;
                if let (Ok(()), Some(wish)) = (&processed, wish) {
                    handlers.0.kept.lock().keep(socket.portal_store(), wish);
                }
                processed
            }
            Err(error) => Err(error),
        };
        if let Err(error) = processed {
            let told = ErrorInfo::from(error);
            let is_fatal = told.is_fatal();
            process_error(&mut socket, PgWireError::UserError(Box::new(told)), is_extended).await?;
            if is_fatal {
                return Ok(());
            }
        }
    }
}

fn too_long(bytes_max: usize) -> PgWireError {
    let message = format!("a message has at most {bytes_max} bytes here");
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), "54000".to_owned(), message)))
}

/// What a client sends, up to a number of bytes that are no complete message yet. One read more may come on top.
struct Bounded<S> {
    stream: S,
    held: usize,
    held_max: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S) -> Self {
        Self { stream, held: 0, held_max: 0 }
    }

    /// A message begins, of which `held` bytes were read before.
    fn expect(&mut self, held: usize, held_max: usize) {
        (self.held, self.held_max) = (held, held_max);
    }

    fn is_exceeded(&self) -> bool {
        self.held >= self.held_max
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_exceeded() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.held += into.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
