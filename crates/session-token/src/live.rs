//! The server's half of a WebSocket whose client comes back: the frames, what their contents mean for the session, and the
//! client for browsers. No WebSocket: the functions take and give texts, for whichever library carries them.
//!
//! `docs/live-protocol.md` says who sends what, when. A connection is
//!
//! ```
//! use resurge_session_token::{SessionError, SessionManager, live};
//!
//! # #[derive(Default, serde::Serialize, serde::Deserialize)] struct View { count: u32 }
//! # struct Socket(std::vec::IntoIter<&'static str>, Vec<String>);
//! # impl Socket {
//! #     async fn next(&mut self) -> Option<&'static str> { self.0.next() }
//! #     async fn send(&mut self, text: String) { self.1.push(text) }
//! #     async fn close(&mut self, _: u16) {}
//! # }
//! /// Returns the code to close with.
//! async fn serve(sessions: &SessionManager, socket: &mut Socket) -> Result<u16, u16> {
//!     let Some(first) = socket.next().await else { return Ok(live::close::NORMAL) };
//!     let join = live::Join::read(first, live::MAX_FRAME).map_err(|e| e.close_code())?;
//!     let mut session = live::mount(sessions, "socket-7", join.token.as_ref(), View::default)
//!         .await
//!         .map_err(|e| live::close_code(&e))?;
//!     socket.send(session.joined(&session.state).map_err(|e| live::close_code(&e))?).await;
//!
//!     while let Some(text) = socket.next().await {
//!         match live::ClientFrame::read(text, live::MAX_FRAME).map_err(|e| e.close_code())? {
//!             // Only to the owner: who is superseded must learn it before its old token counts as stolen.
//!             live::ClientFrame::Ping => {
//!                 socket.send(session.ping(sessions).await.map_err(|e| live::close_code(&e))?).await;
//!             }
//!             live::ClientFrame::Leave => {
//!                 session.end(sessions).await.map_err(|e| live::close_code(&e))?;
//!                 return Ok(live::close::NORMAL);
//!             }
//!             live::ClientFrame::Event { name, payload } if name == "add" => {
//!                 let by: u32 = payload.read().map_err(|e| e.close_code())?;
//!                 session.state.count = session.state.count.saturating_add(by);
//!                 // Saved before it is told. `Conflict` closes with 4409: this connection is not the owner any more.
//!                 let news = session.save(sessions).await.map_err(|e| live::close_code(&e))?;
//!                 if let Some(token) = news {
//!                     socket.send(token).await;
//!                 }
//!                 let count = session.state.count;
//!                 socket.send(live::event("count", &count).map_err(|e| e.close_code())?).await;
//!             }
//!             _ => return Err(live::close::PROTOCOL),
//!         }
//!     }
//!     Ok(live::close::NORMAL)
//! }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), SessionError> {
//! # let key = [7, 1, 8, 2].repeat(8);
//! # let sessions = SessionManager::builder(resurge_store::Store::memory()).key(1, &key).build()?;
//! # let frames = vec![r#"{"event":"join","v":1}"#, r#"{"event":"ping"}"#, r#"{"event":"add","payload":3}"#, r#"{"event":"leave"}"#];
//! # let mut socket = Socket(frames.into_iter(), Vec::new());
//! # assert_eq!(serve(&sessions, &mut socket).await, Ok(1000));
//! # assert!(socket.1[0].starts_with(r#"{"event":"joined","payload":{"_recovery":"st1."#));
//! # assert_eq!(socket.1[1..], [r#"{"event":"pong"}"#, r#"{"event":"count","payload":3}"#]);
//! # assert_eq!(sessions.live().await?, 0);
//! # Ok(()) }
//! ```

pub mod close;
mod error;
mod join;
mod read;
mod session;
mod write;

pub use close::close_code;
pub use error::FrameError;
pub use join::join_token;
pub use read::{ClientFrame, Join, Payload};
pub use session::{JoinStatus, LiveSession, mount};
pub use write::{event, joined, pong, token};

/// The version of the protocol: `v` of a join.
pub const PROTOCOL: u32 = 1;

/// A sensible limit of a frame, in bytes: the longest token and as much again. Give it to the WebSocket library, too.
pub const MAX_FRAME: usize = 128 << 10;

/// The names that events of an application cannot have.
pub const RESERVED: [&str; 7] = ["join", "joined", "leave", "ping", "pong", "state", "token"];

/// The client for browsers, an ES module without dependencies: serve it as `text/javascript`, from the same build as
/// the server, and both speak the same protocol.
///
/// ```
/// use resurge_session_token::live::CLIENT_JS;
/// // With axum: `.route("/resurge-session.js", get(|| async { ([(CONTENT_TYPE, "text/javascript")], CLIENT_JS) }))`
/// assert!(CLIENT_JS.contains("export class RecoverableSocket extends EventTarget"));
/// ```
pub const CLIENT_JS: &str = include_str!("../client/resurge-session.js");
