//! The process that is killed: a server whose clients come back.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_session_token::{SessionError, Token};
use resurge_store::{Batch, Durability, Namespace, Record, Store};
use resurge_testkit::Failure;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::client::STALE;
use super::kinds::{Ahead, Kind, Managers, State};
use crate::child::{UNOPENABLE, open, open_unsynced, say};

/// Often, so that kills hit it.
const CLEANUP: Duration = Duration::from_millis(25);
/// Every so many-th recovery goes wrong, where that is planted.
const CROSSED: u64 = 40;

/// A way to do it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// Says that a state is saved before it is.
    EarlySave,
    /// Tokens that were replaced work on, after their grace, too.
    Forgiving,
    /// The same of tokens that work once.
    Reusable,
    /// Sessions do not expire.
    Immortal,
    /// There may be any number of them.
    Unlimited,
    /// Gives a client what another one recovered.
    Crossed,
    /// Says that a session is deleted or revoked, and leaves it.
    Undead,
    /// Forgets who owns a session.
    Unfenced,
    /// Seals nothing.
    Clear,
    /// Leaves an index entry of no session.
    Orphan,
    /// Syncs nothing, which only a power cut can tell.
    NoSync,
}

impl Planted {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "nothing" => Some(Self::Nothing),
            "early-save" => Some(Self::EarlySave),
            "forgiving" => Some(Self::Forgiving),
            "reusable" => Some(Self::Reusable),
            "immortal" => Some(Self::Immortal),
            "unlimited" => Some(Self::Unlimited),
            "crossed" => Some(Self::Crossed),
            "undead" => Some(Self::Undead),
            "unfenced" => Some(Self::Unfenced),
            "clear" => Some(Self::Clear),
            "orphan" => Some(Self::Orphan),
            "no-sync" => Some(Self::NoSync),
            _ => None,
        }
    }
}

pub(crate) fn child(dir: &str, socket: &str, cycle: &str, hour: &str, planted: &str) -> ExitCode {
    let (Ok(cycle), Ok(hour), Some(planted)) =
        (cycle.parse(), hour.parse(), Planted::parse(planted))
    else {
        return ExitCode::FAILURE;
    };
    let open = if planted == Planted::NoSync { open_unsynced } else { open };
    let store = match open(dir.as_ref(), cycle) {
        Ok((store, _)) => Store::new(store).with_clock(Ahead::by_hours(hour)),
        Err(e) => {
            eprintln!("cycle {cycle}: the child cannot open its store: {e}");
            return ExitCode::from(UNOPENABLE);
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(serve(&store, socket, planted)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cycle {cycle}: the child failed: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Takes clients until killed.
async fn serve(store: &Store, socket: &str, planted: Planted) -> Result<(), Failure> {
    if planted == Planted::Orphan {
        let index = [&b"x"[..], &u64::MAX.to_be_bytes(), &[7; 16]].concat();
        let key = Namespace::new("session/rotate")?.key(index)?;
        let mut batch = Batch::new();
        batch.put(key.clone(), Record::new(&b"l"[..]).encode(&key));
        store.commit(batch, Durability::Durable).await?;
    }
    let managers = Managers::on(store, planted, Some(CLEANUP))?;
    let listener = UnixListener::bind(socket)?;
    say("open")?;
    let others = Arc::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let (managers, others) = (managers.clone(), Arc::clone(&others));
        let connection = Connection { managers, planted, others, held: None };
        // A client that goes away is no failure of the server.
        tokio::spawn(async move { connection.serve(stream).await.ok() });
    }
}

/// How many recoveries there were, and what the last one was told.
type Others = Mutex<(u64, String)>;

/// One client; holds the session it created or recovered last.
struct Connection {
    managers: Managers,
    planted: Planted,
    others: Arc<Others>,
    held: Option<(Kind, Token, u64)>,
}

impl Connection {
    async fn serve(mut self, stream: UnixStream) -> Result<(), Failure> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut answer = String::new();
            let version = self.held.as_ref().map_or(0, |(_, _, version)| version + 1);
            if self.planted == Planted::EarlySave && is_save(&words) {
                stream.write_all(format!("saved {version}\n").as_bytes()).await?;
                self.answer(&words).await.ok();
            } else {
                answer = match self.answer(&words).await {
                    Ok(answer) => answer + "\n",
                    Err(e) => format!("refused {}\n", e.class()),
                };
            }
            stream.write_all(answer.as_bytes()).await?;
            line.clear();
        }
        Ok(())
    }

    async fn answer(&mut self, words: &[&str]) -> Result<String, SessionError> {
        let kind = |name: &str| Kind::parse(name).ok_or(SessionError::Malformed);
        match *words {
            ["create", name, subject] => {
                let kind = kind(name)?;
                let token = self.managers.of(kind)?.create(subject).await?;
                let answer = format!("token {}", token.expose());
                self.held = Some((kind, token, 0));
                Ok(answer)
            }
            ["recover", name, token] => self.recover(kind(name)?, token).await,
            ["save", client, counter, canary] => {
                let state = state(client, counter, canary)?;
                let (kind, token, version) = self.held.as_mut().ok_or(SessionError::NotFound)?;
                if self.planted == Planted::Unfenced {
                    *token = token.expose().into();
                }
                let saved = self.managers.of(*kind)?.save(token, &state).await?;
                (*token, *version) = (saved.token, saved.version);
                Ok(format!("saved {version}"))
            }
            ["save-with", name, token, version, client, counter, canary] => {
                let (state, token) = (state(client, counter, canary)?, token.into());
                let manager = self.managers.of(kind(name)?)?;
                let saved = match version.parse() {
                    Ok(version) => manager.save_if(&token, version, &state).await?,
                    Err(_) => manager.save(&token, &state).await?,
                };
                Ok(format!("saved {}", saved.version))
            }
            ["delete" | "revoke", ..] if self.planted == Planted::Undead => Ok("done".to_owned()),
            ["delete", name, token] => {
                self.managers.of(kind(name)?)?.delete(&token.into()).await?;
                Ok("done".to_owned())
            }
            ["revoke", name, token] => {
                self.managers.of(kind(name)?)?.revoke(&token.into()).await?;
                Ok("done".to_owned())
            }
            _ => Err(SessionError::Malformed),
        }
    }

    async fn recover(&mut self, kind: Kind, token: &str) -> Result<String, SessionError> {
        let back = self.managers.of(kind)?.recover::<State>(&token.into()).await?;
        let State { client, counter, canary } = &back.state;
        let (token, version, subject) = (back.token.expose(), back.version, &back.subject);
        let answer = format!("back {token} {version} {subject} {client} {counter} {canary}");
        self.held = Some((kind, back.token, version));
        let mut others = self.others.lock();
        others.0 += 1;
        let other = std::mem::replace(&mut others.1, answer.clone());
        let crosses = self.planted == Planted::Crossed && others.0.is_multiple_of(CROSSED);
        Ok(if crosses { other } else { answer })
    }
}

/// Not that of a former owner, which is to be refused.
fn is_save(words: &[&str]) -> bool {
    let ["save", _, counter, _] = words else { return false };
    counter.parse::<u64>().is_ok_and(|counter| counter < STALE)
}

fn state(client: &str, counter: &str, canary: &str) -> Result<State, SessionError> {
    let number = |text: &str| text.parse().map_err(|_| SessionError::Malformed);
    let (client, counter) = (number(client)?, number(counter)?);
    Ok(State { client, counter, canary: canary.to_owned() })
}
