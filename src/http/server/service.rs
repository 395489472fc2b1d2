//! Reports the progress of requests and their bodies to the connection's tracker.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, Version};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;

use super::tracker::{Exchange, Tracker};
use crate::http::peer::Peer;

/// The routes for one connection.
#[derive(Debug)]
pub(super) struct Service {
    routes: TowerToHyperService<Router>,
    peer: Peer,
    tracker: Arc<Tracker>,
}

impl Service {
    pub(super) fn new(router: Router, peer: Peer, tracker: Arc<Tracker>) -> Self {
        Self { routes: TowerToHyperService::new(router), peer, tracker }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Outgoing>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let has_body = !request.body().is_end_stream();
        let is_http2 = request.version() == Version::HTTP_2;
        let Some(exchange) = self.tracker.request(is_http2, has_body) else {
            return Box::pin(std::future::ready(Err(ErrorKind::ConnectionAborted.into())));
        };
        let tracker = Arc::clone(&self.tracker);
        let mut request = request
            .map(|body| Body::new(Arriving { body, tracker, is_waiting: false, has_ended: !has_body }));
        request.extensions_mut().insert(self.peer);
        let response = hyper::service::Service::call(&self.routes, request);
        Box::pin(async move {
            let Ok(response) = response.await;
            exchange.response();
            Ok(response.map(|body| Outgoing { body, _exchange: exchange }))
        })
    }
}

/// The body of a request.
struct Arriving {
    body: Incoming,
    tracker: Arc<Tracker>,
    is_waiting: bool,
    has_ended: bool,
}

impl Arriving {
    fn is_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting != is_waiting {
            self.is_waiting = is_waiting;
            self.tracker.wants_body(is_waiting);
        }
    }

    fn ended(&mut self) {
        if !self.has_ended {
            self.has_ended = true;
            self.tracker.body_ended();
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.is_waiting(frame.is_pending());
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.ended();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.is_waiting(false);
        self.ended();
    }
}

/// The body of a response. Dropping it ends the request.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Body,
    _exchange: Exchange,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
