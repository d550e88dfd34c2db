//! Connections: taken, served, and closed in order.
//!
//! HTTP/1.1 and HTTP/2 without TLS on one port. A client that connects and then does not finish
//! its headers in time gets a 408 and is let go. Knows nothing of paths.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use stellwerk_core::reply::Words;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// From the connection to the end of the first request's headers. Shorter than the limit below,
/// which the HTTP library keeps by closing without a word.
const FIRST_HEADERS_WITHIN: Duration = Duration::from_secs(20);
/// From one answer to the end of the next headers.
const NEXT_HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Between two pings on HTTP/2, and how long an answer may take.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The largest head of a request on HTTP/2; on HTTP/1.1 the library's own limit holds.
const MAX_HEAD_BYTES: u32 = 64 * 1024;

/// The server cannot listen where it should.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub cause: std::io::Error,
}

impl ListenError {
    /// What is wrong and what to do.
    pub fn words(&self) -> Words {
        let address = self.address;
        match self.cause.kind() {
            std::io::ErrorKind::AddrInUse => Words::new(
                format!(
                    "{address} is in use already; stop the other program or set another `server.listen`"
                ),
                format!(
                    "{address} wird schon benutzt; das andere Programm beenden oder `server.listen` ändern"
                ),
            ),
            std::io::ErrorKind::PermissionDenied => Words::new(
                format!(
                    "listening on {address} is not allowed; take a port above 1023 in `server.listen`"
                ),
                format!(
                    "an {address} darf nicht gelauscht werden; in `server.listen` einen Port über 1023 wählen"
                ),
            ),
            std::io::ErrorKind::AddrNotAvailable => Words::new(
                format!(
                    "this machine has no address {}; set another `server.listen`",
                    address.ip()
                ),
                format!(
                    "diese Maschine hat keine Adresse {}; `server.listen` ändern",
                    address.ip()
                ),
            ),
            _ => Words::new(
                format!("cannot listen on {address}: {}", self.cause),
                format!("an {address} kann nicht gelauscht werden: {}", self.cause),
            ),
        }
    }
}

/// Takes the port. Done before anything else is opened, so that a second server on the same port
/// ends without having touched the database.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|cause| ListenError { address, cause })
}

/// Resolves at SIGTERM, SIGINT or Ctrl-C.
pub async fn stop_signal() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be heard");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = terminate() => {}
    }
}

#[cfg(unix)]
async fn terminate() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be heard");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminate() {
    std::future::pending().await
}

/// Takes connections until told to stop; gives back those that still run.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> GracefulShutdown {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_HEADERS_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_concurrent_streams(1024);
    let builder = Arc::new(builder);
    let running = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = &mut stop => return running,
        };
        match taken {
            Ok((socket, _peer)) => serve(socket, &builder, &router, &running),
            // Out of file descriptors, or a client that went away again: the next may do.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn serve(
    socket: TcpStream,
    builder: &Arc<auto::Builder<TokioExecutor>>,
    router: &Router,
    running: &GracefulShutdown,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "small pieces may wait for larger ones on this connection");
    }
    let last_word = LastWord::of(&socket);
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let (router, asked) = (router.clone(), asked.clone());
        service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            router.clone().oneshot(request)
        })
    };
    let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
    let connection = running.watch(connection);
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let first_headers = tokio::time::sleep(FIRST_HEADERS_WITHIN);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = first_headers => {
                if !asked.load(Ordering::Relaxed) {
                    return last_word.too_slow();
                }
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients hang up in many ways, and none of them is news.
            tracing::debug!(%error, "a connection ended early");
        }
    });
}

/// A second handle on the socket, for the one answer that the HTTP library does not give: 408
/// to a client that never finished its headers.
struct LastWord {
    #[cfg(unix)]
    socket: Option<std::net::TcpStream>,
}

impl LastWord {
    #[cfg(unix)]
    fn of(socket: &TcpStream) -> Self {
        use std::os::fd::AsFd;
        let copy = socket.as_fd().try_clone_to_owned();
        LastWord { socket: copy.ok().map(std::net::TcpStream::from) }
    }

    #[cfg(not(unix))]
    fn of(_socket: &TcpStream) -> Self {
        LastWord {}
    }

    fn too_slow(self) {
        #[cfg(unix)]
        if let Some(mut socket) = self.socket {
            use std::io::Write;
            let body = r#"{"error":{"message":"the headers did not arrive in time","type":"timeout_error","code":"timeout","param":null}}"#;
            let head = "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            // The socket does not block; a client that takes nothing gets nothing.
            if let Err(error) = socket.write_all(answer.as_bytes()) {
                tracing::debug!(%error, "a slow client did not take its 408");
            }
        }
    }
}
