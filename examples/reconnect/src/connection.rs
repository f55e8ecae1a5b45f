//! One connection of a page: it joins, with its token or without, and counts.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use resurge::store::{Entropy, OsEntropy};
use resurge_session_token::SessionError;
use resurge_session_token::live::{self, ClientFrame, FrameError, Join, MAX_FRAME};
use serde::{Deserialize, Serialize};

use crate::hold::Point;
use crate::service::App;

/// A page that does not join in that time is none.
const JOIN_LIMIT: Duration = Duration::from_secs(10);
/// A page says something twice in that time.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// How many clicks.
    pub count: u64,
    /// Whose, so that pages can be told apart.
    pub visitor: String,
}

/// Why a connection ends.
enum End {
    /// The page went away.
    Gone,
    /// The page is told, by a code.
    Close(u16),
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        tracing::info!(%error, "a connection ends");
        Self::Close(error.close_code())
    }
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        tracing::info!(class = error.class(), "a connection ends");
        Self::Close(live::close_code(&error))
    }
}

pub(crate) async fn serve(mut socket: WebSocket, app: App) {
    if let Err(End::Close(code)) = converse(&mut socket, &app).await {
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        // Fails only when the page is gone.
        let _gone = socket.send(Message::Close(Some(frame))).await;
    }
}

async fn converse(socket: &mut WebSocket, App { sessions, hold }: &App) -> Result<(), End> {
    let first = text(socket, JOIN_LIMIT).await?;
    let join = Join::read(&first, MAX_FRAME)?;
    let visitor = format!("visitor-{:016x}", OsEntropy.next_u64().map_err(SessionError::from)?);
    let fresh = || Counter { count: 0, visitor: visitor.clone() };
    let mut session = live::mount(sessions, &visitor, join.token.as_ref(), fresh).await?;
    if let Some(refused) = &session.refused {
        tracing::info!(class = refused.class(), "a token was refused");
    }
    hold.pass(Point::Recovered).await;
    tell(socket, session.joined(&session.state)?).await?;
    loop {
        let frame = text(socket, IDLE_LIMIT).await?;
        match ClientFrame::read(&frame, MAX_FRAME)? {
            ClientFrame::Ping => tell(socket, session.ping(sessions).await?).await?,
            ClientFrame::Leave => {
                session.end(sessions).await?;
                return Err(End::Close(live::close::NORMAL));
            }
            ClientFrame::Event { name, .. } if name == "click" => {
                hold.pass(Point::Clicked).await;
                session.state.count += 1;
                // ORDER: what the page is told is saved before.
                let token = session.save(sessions).await?;
                hold.pass(Point::Saved).await;
                if let Some(token) = token {
                    tell(socket, token).await?;
                }
                tell(socket, live::event("count", &session.state)?).await?;
            }
            _ => return Err(End::Close(live::close::PROTOCOL)),
        }
    }
}

/// The next text; pings of the WebSocket itself are passed over.
async fn text(socket: &mut WebSocket, limit: Duration) -> Result<Utf8Bytes, End> {
    let text = async {
        loop {
            match socket.recv().await.ok_or(End::Gone)?? {
                Message::Text(text) => return Ok(text),
                Message::Close(_) => return Err(End::Gone),
                Message::Binary(_) => return Err(End::Close(live::close::PROTOCOL)),
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    // Nobody is there to be told.
    tokio::time::timeout(limit, text).await.unwrap_or(Err(End::Gone))
}

async fn tell(socket: &mut WebSocket, frame: String) -> Result<(), End> {
    Ok(socket.send(Message::Text(frame.into())).await?)
}
