//! The page without a browser: the same protocol, the same states, in Rust.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use resurge_session_token::live::PROTOCOL;
use resurge_session_token::live::close::{FINAL, NORMAL, SUPERSEDED};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::Result;
use crate::browser::{Browser, Tab, View};

/// From one attempt to connect to the next.
const RETRY: Duration = Duration::from_millis(200);

/// From one sign of life to the next.
const BEAT: Duration = Duration::from_secs(25);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Pages without a browser.
#[derive(Default)]
pub(crate) struct Client {
    pages: Vec<Page>,
}

/// A page: what it shows, and a task that connects. Ends when dropped.
struct Page {
    shown: Shown,
    clicks: mpsc::UnboundedSender<()>,
    task: JoinHandle<()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Shown(Arc<Mutex<View>>);

impl Shown {
    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, name: &str) {
        name.clone_into(&mut self.lock().connection);
    }

    /// What a payload says of the state.
    fn state(&self, state: &Value) {
        let mut view = self.lock();
        view.count = state.get("count").map(Value::to_string).unwrap_or_default();
        view.visitor = text(state, "visitor");
    }
}

impl Page {
    fn load(url: &str, token: Option<String>) -> Self {
        let view = View {
            connection: "connecting".to_owned(),
            url: url.to_owned(),
            token,
            ..View::default()
        };
        let shown = Shown(Arc::new(Mutex::new(view)));
        let (clicks, clicked) = mpsc::unbounded_channel();
        let task = tokio::spawn(live_on(live(url), shown.clone(), clicked));
        Self { shown, clicks, task }
    }
}

/// Asks for a WebSocket as a page of that site would; the status of the answer.
pub(crate) async fn connect_as(origin: &'static str, url: &str) -> Result<u16> {
    let mut request = live(url).into_client_request()?;
    request.headers_mut().insert("origin", HeaderValue::from_static(origin));
    match connect_async(request).await {
        Ok((_, answer)) => Ok(answer.status().as_u16()),
        Err(Error::Http(answer)) => Ok(answer.status().as_u16()),
        Err(other) => Err(other.into()),
    }
}

/// Where the WebSocket of the page at this address is.
fn live(url: &str) -> String {
    format!("{}live", url.replacen("http", "ws", 1))
}

/// Connects again and again, until another page took over.
async fn live_on(url: String, shown: Shown, mut clicked: mpsc::UnboundedReceiver<()>) {
    let mut retry = tokio::time::interval(RETRY);
    loop {
        retry.tick().await;
        if let Ok((socket, _)) = connect_async(&url).await {
            let ended = converse(socket, &shown, &mut clicked).await;
            match ended {
                Ok(Some(SUPERSEDED)) => {
                    // An old token that is shown again ends the session for who took it over.
                    shown.lock().token = None;
                    return shown.connection("superseded");
                }
                Ok(Some(code)) if code == NORMAL || FINAL.contains(&code) => {
                    return shown.connection("closed");
                }
                _ => {}
            }
        }
        shown.connection("reconnecting");
        // A button that is not connected cannot be clicked.
        while clicked.try_recv().is_ok() {}
    }
}

/// One connection; how it was closed, if it was.
async fn converse(
    mut socket: Socket,
    shown: &Shown,
    clicked: &mut mpsc::UnboundedReceiver<()>,
) -> Result<Option<u16>> {
    let token = shown.lock().token.clone();
    let join = json!({ "event": "join", "v": PROTOCOL, "payload": { "_recovery": token } });
    socket.send(Message::Text(join.to_string().into())).await?;
    let mut beat = tokio::time::interval(BEAT);
    beat.reset();
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = beat.tick() => {
                socket.send(Message::Text(json!({ "event": "ping" }).to_string().into())).await?;
                continue;
            }
            Some(()) = clicked.recv() => {
                let click = json!({ "event": "click", "payload": {} });
                socket.send(Message::Text(click.to_string().into())).await?;
                continue;
            }
        };
        match message {
            None => return Ok(None),
            Some(Ok(Message::Close(frame))) => return Ok(frame.map(|frame| frame.code.into())),
            Some(Ok(Message::Text(message))) => take(shown, &serde_json::from_str(&message)?),
            Some(other) => drop(other?),
        }
    }
}

/// Shows what the server says.
fn take(shown: &Shown, message: &Value) {
    let nothing = Value::Null;
    let payload = message.get("payload").unwrap_or(&nothing);
    match message.get("event").and_then(Value::as_str) {
        Some("joined") => {
            shown.state(payload.get("state").unwrap_or(&nothing));
            let mut view = shown.lock();
            view.token = Some(text(payload, "_recovery"));
            view.status = text(payload, "status");
            drop(view);
            shown.connection("connected");
        }
        Some("token") => shown.lock().token = Some(text(payload, "_recovery")),
        Some("count") => shown.state(payload),
        _ => {}
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Client {
    fn page(&mut self, tab: Tab) -> Result<&mut Page> {
        self.pages.get_mut(tab.0).ok_or_else(|| "no such tab".into())
    }

    fn push(&mut self, page: Page) -> Tab {
        self.pages.push(page);
        Tab(self.pages.len() - 1)
    }
}

impl Browser for Client {
    async fn open(&mut self, url: &str) -> Result<Tab> {
        Ok(self.push(Page::load(url, None)))
    }

    async fn duplicate(&mut self, tab: Tab) -> Result<Tab> {
        let view = self.view(tab).await?;
        Ok(self.push(Page::load(&view.url, view.token)))
    }

    async fn reload(&mut self, tab: Tab) -> Result<()> {
        let view = self.view(tab).await?;
        *self.page(tab)? = Page::load(&view.url, view.token);
        Ok(())
    }

    async fn click(&mut self, tab: Tab) -> Result<()> {
        Ok(self.page(tab)?.clicks.send(())?)
    }

    async fn view(&mut self, tab: Tab) -> Result<View> {
        Ok(self.page(tab)?.shown.lock().clone())
    }

    async fn set_token(&mut self, tab: Tab, token: &str) -> Result<()> {
        self.page(tab)?.shown.lock().token = Some(token.to_owned());
        Ok(())
    }

    async fn screenshot(&mut self, _: Tab, _: &Path) -> Result<()> {
        Ok(())
    }
}
