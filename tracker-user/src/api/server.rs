//! Connections to the admin API: few at a time, one request each, all of it bounded in size and time.

use super::{
    DESCRIPTION,
    answer::{Problem, Reply, written},
    operation,
    request::{Asked, authorise, body},
    route::{Found, Operation, find},
};
use crate::{
    config::api::ApiAccess,
    control::Control,
    http::{Listener, tls::Certificates},
    listen::Place,
    service::{Service, Shutdown},
    statistics::api::{ApiCounters, ApiFailure},
};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use hyper::{Request, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible, net::TcpListener as StdTcp, os::unix::net::UnixListener as StdUnix, sync::Arc, time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Connections at a time.
const CONNECTIONS: usize = 32;

/// Operations at a time. Changes wait for each other anyway.
const WORKERS: usize = 8;

/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may last, with all that is done for it.
const LONGEST: Duration = Duration::from_secs(600);

/// How long those that are open at the end may go on.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes that are read ahead: the longest head.
const HEAD: usize = 16 << 10;

/// Where it listens.
#[derive(Default)]
pub struct Listeners {
    /// Without TLS.
    pub plain: Vec<Listener>,
    /// With TLS.
    pub secure: Vec<Listener>,
}

impl Listeners {
    /// Where they are, for people.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let secure = self.secure.iter().map(|listener| format!("{} (TLS)", listener.place));
        self.plain.iter().map(|listener| listener.place.to_string()).chain(secure).collect()
    }
}

/// The admin API on its listeners.
pub struct Server {
    listeners: Listeners,
    shared: Arc<Shared>,
}

struct Shared {
    control: Arc<Control>,
    access: Arc<ArcSwap<ApiAccess>>,
    counters: Arc<ApiCounters>,
    permits: Arc<Semaphore>,
}

impl Server {
    /// On these listeners.
    #[must_use]
    pub fn new(listeners: Listeners, control: Arc<Control>) -> Self {
        let shared = Shared {
            access: control.parts.handles.api.clone(),
            counters: control.parts.statistics.http.api.thread(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            control,
        };
        Self { listeners, shared: Arc::new(shared) }
    }
}

impl Service for Server {
    fn name(&self) -> String {
        "api".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(WORKERS).thread_name("api-work");
        let runtime: Runtime = builder.build().context("cannot make the event loop of the admin API")?;
        runtime.block_on(self.serve(shutdown))?;
        // What was begun is done to its end; it is not waited for.
        runtime.shutdown_timeout(GRACE);
        Ok(())
    }
}

impl Server {
    async fn serve(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut loops = JoinSet::new();
        for listener in self.listeners.secure {
            let Some(certificates) = self.shared.control.parts.certificates.clone() else { continue };
            for socket in listener.into_sockets() {
                let (shared, shutdown, certificates) = (self.shared.clone(), shutdown.clone(), certificates.clone());
                let listener = TcpListener::from_std(StdTcp::from(socket))?;
                loops.spawn(async move {
                    let mut open = JoinSet::new();
                    while let Some(stream) = shared.next(&shutdown, &mut open, listener.accept()).await {
                        shared.clone().begin_tls(&mut open, stream, &certificates);
                    }
                    finish(open).await;
                });
            }
        }
        for listener in self.listeners.plain {
            let by_unix = matches!(listener.place, Place::Unix(_));
            for socket in listener.into_sockets() {
                let (shared, shutdown) = (self.shared.clone(), shutdown.clone());
                if by_unix {
                    let listener = UnixListener::from_std(StdUnix::from(std::os::fd::OwnedFd::from(socket)))?;
                    loops.spawn(async move {
                        let mut open = JoinSet::new();
                        while let Some(stream) = shared.next(&shutdown, &mut open, listener.accept()).await {
                            shared.clone().begin(&mut open, stream, true);
                        }
                        finish(open).await;
                    });
                } else {
                    let listener = TcpListener::from_std(StdTcp::from(socket))?;
                    loops.spawn(async move {
                        let mut open = JoinSet::new();
                        while let Some(stream) = shared.next(&shutdown, &mut open, listener.accept()).await {
                            shared.clone().begin(&mut open, stream, false);
                        }
                        finish(open).await;
                    });
                }
            }
        }
        while loops.join_next().await.is_some() {}
        Ok(())
    }
}

/// Gives the connections that are open a little time.
async fn finish(mut open: JoinSet<()>) {
    let _ = timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
}

impl Shared {
    /// The next connection; `None` at the end.
    async fn next<S, A>(
        &self,
        shutdown: &Shutdown,
        open: &mut JoinSet<()>,
        accept: impl Future<Output = std::io::Result<(S, A)>>,
    ) -> Option<Result<S, ()>> {
        while open.try_join_next().is_some() {}
        tokio::select! {
            () = shutdown.token().cancelled() => None,
            accepted = accept => match accepted {
                Ok((stream, _)) => Some(Ok(stream)),
                Err(error) => {
                    tracing::debug!("cannot accept a connection to the admin API: {error}");
                    sleep(Duration::from_millis(100)).await;
                    Some(Err(()))
                }
            },
        }
    }

    /// Serves a connection in a task of its own, if there are not too many.
    fn begin<S>(self: Arc<Self>, open: &mut JoinSet<()>, stream: Result<S, ()>, by_unix: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(stream) = stream else { return };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.counters.failure(ApiFailure::Busy);
            return;
        };
        open.spawn(self.connection(stream, by_unix, permit));
    }

    /// The same, with a handshake first.
    fn begin_tls(self: Arc<Self>, open: &mut JoinSet<()>, stream: Result<TcpStream, ()>, certificates: &Certificates) {
        let Ok(stream) = stream else { return };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.counters.failure(ApiFailure::Busy);
            return;
        };
        let acceptor = TlsAcceptor::from(certificates.config());
        open.spawn(async move {
            match timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.connection(stream, false, permit).await,
                Ok(Err(_)) => self.counters.failure(ApiFailure::Malformed),
                Err(_) => self.counters.failure(ApiFailure::Timeout),
            }
        });
    }

    async fn connection<S>(self: Arc<Self>, stream: S, by_unix: bool, _permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = self.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request, by_unix).await) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .keep_alive(false)
            .half_close(true)
            .max_buf_size(HEAD);
        let served = timeout(LONGEST, builder.serve_connection(TokioIo::new(stream), service)).await;
        if let Ok(Err(error)) = served {
            // The library has answered it.
            if error.is_parse() {
                self.counters.failure(ApiFailure::Malformed);
            } else if error.is_timeout() {
                self.counters.failure(ApiFailure::Timeout);
            }
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, by_unix: bool) -> Reply {
        match self.clone().try_answer(request, by_unix).await {
            Ok(reply) => reply,
            Err(problem) => {
                self.counters.failure(problem.failure);
                problem.reply()
            }
        }
    }

    async fn try_answer(self: Arc<Self>, request: Request<Incoming>, by_unix: bool) -> Result<Reply, Problem> {
        let (head, incoming) = request.into_parts();
        let (route, parameters) = match find(&head.method, head.uri.path()) {
            Found::Operation(route, parameters) => (route, parameters),
            Found::OtherMethods(allowed) => {
                let detail = format!("{} has {allowed}", head.uri.path());
                return Err(Problem::new(ApiFailure::Method, detail).with(header::ALLOW, allowed));
            }
            Found::Nothing => {
                return Err(Problem::new(ApiFailure::NotFound, "/openapi.json describes what there is"));
            }
        };
        authorise(&self.access.load(), by_unix, route.kind, &head.headers)?;
        let body = body(operation::takes_body(route.operation), &head.headers, incoming).await?;
        if route.operation == Operation::Description {
            self.counters.count(route.kind);
            return Ok(written(DESCRIPTION));
        }
        let asked = Asked { parameters, query: head.uri.query().unwrap_or_default().to_owned(), body };
        let control = self.control.clone();
        let work = spawn_blocking(move || operation::run(&control, route.operation, &asked));
        let answer = work.await.map_err(|error| Problem::new(ApiFailure::Internal, error.to_string()))??;
        self.counters.count(route.kind);
        Ok(answer.reply())
    }
}
