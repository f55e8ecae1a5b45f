//! The routes: the page, its script, and the WebSocket.

use axum::Router;
use axum::extract::{Request, State, WebSocketUpgrade};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_request;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use resurge::SessionManager;
use resurge_session_token::live::{CLIENT_JS, MAX_FRAME};

use crate::connection;
use crate::hold::Hold;

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) sessions: SessionManager,
    pub(crate) hold: Hold,
}

/// The whole service.
pub fn service(sessions: SessionManager, hold: Hold) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/resurge-session.js", get(script))
        .route("/live", get(upgrade))
        .layer(map_request(asked))
        .with_state(App { sessions, hold })
}

async fn script() -> Response {
    let headers = [(CONTENT_TYPE, "text/javascript"), (CACHE_CONTROL, "no-cache")];
    (headers, CLIENT_JS).into_response()
}

async fn upgrade(
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
    State(app): State<App>,
) -> Response {
    if !own_page(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    upgrade.max_message_size(MAX_FRAME).on_upgrade(|socket| connection::serve(socket, app))
}

/// Browsers let pages of every site open a WebSocket here, and say which one it is; others say nothing.
fn own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let own =
        |host: &HeaderValue| origin.as_bytes().strip_prefix(b"http://") == Some(host.as_bytes());
    headers.get(HOST).is_some_and(own)
}

/// An access log, as servers have them: what is in a URL ends up in one.
async fn asked(request: Request) -> Request {
    tracing::info!(method = %request.method(), uri = %request.uri(), "asked");
    request
}
