//! The server, below HTTP: while it is down, connections are refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::faults::{self, ApiFault, Close};
use super::{Shared, api};

/// Binds the port without listening on it: connections are refused, and no other process can take the port.
pub fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listens while the emulator should be up.
pub async fn serve(shared: Arc<Shared>, _reserved: TcpSocket, address: SocketAddr) {
    let router = api::router(Arc::clone(&shared));
    let mut wanted = shared.wanted.subscribe();
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let Ok(listener) = reserve(address).and_then(|socket| socket.listen(4096)) else {
            // While nothing listens on it, the kernel may give the port to a test that asks for any.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        shared.up.send_replace(true);
        let mut connections = JoinSet::new();
        tokio::select! {
            _ = wanted.wait_for(|wanted| !*wanted) => {}
            () = accept(&listener, &mut connections, &shared, &router) => {}
        }
        drop(listener);
        connections.shutdown().await;
        shared.up.send_replace(false);
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    router: &Router,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(shared), router.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, router: Router) {
    shared.count(|counts| counts.connections += 1);
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (shared, router) = (Arc::clone(&shared), router.clone());
        async move { call(&shared, router, request.map(Body::new)).await }
    });
    // An error means that the other end has closed the connection.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn call(shared: &Shared, router: Router, request: Request<Body>) -> Result<Response<Body>, Close> {
    let fault = if api::is_control(request.uri()) { None } else { shared.store().take_api_fault() };
    if let Some(fault) = fault {
        shared.count(|counts| counts.faults += 1);
        if let Some(answer) = faults::answer(fault).await {
            return answer;
        }
    }
    let Ok(answer) = router.oneshot(request).await;
    if fault == Some(ApiFault::LoseAnswer) { Err(Close) } else { Ok(answer) }
}
