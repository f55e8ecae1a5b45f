//! Keys, policies and a flow whose every sort of value holds a secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_flow::{Ctx, FlowRef, FlowResult, Flows, FlowsOptions, StepError};
use resurge_seal::{KeyRing, Sealer, SensitivePolicy};
use resurge_store::Store;
use resurge_store_sled::{SledOptions, SledStore};
use serde::{Deserialize, Serialize};

/// In every secret value of the tests, and nowhere else.
pub(crate) const CANARY: &str = "canary-7f3a";

pub(crate) fn key(n: u8) -> Vec<u8> {
    (0..32).map(|i| n.wrapping_mul(37) ^ i).collect()
}

pub(crate) fn policy() -> SensitivePolicy {
    let names = ["pwd", "password", "n", "obj", "*_token", "db.password"];
    SensitivePolicy::new().names(names).unwrap()
}

pub(crate) fn sealer(n: u8) -> Sealer {
    Sealer::new(KeyRing::from_bytes(1, &key(n)).unwrap(), policy())
}

pub(crate) fn flows(store: &Store, sealer: Sealer) -> Flows {
    Flows::open(store, FlowsOptions { sealer, ..FlowsOptions::default() }).unwrap()
}

pub(crate) async fn open(path: &Path) -> Store {
    let (backend, _) = SledStore::open(path, SledOptions::new()).await.unwrap();
    Store::new(backend)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) db: Db,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Db {
    pub(crate) host: String,
    pub(crate) password: String,
}

pub(crate) fn login() -> Login {
    let db = Db { host: "visible-host".to_owned(), password: format!("{CANARY}-db") };
    Login { user: "visible-user".to_owned(), password: format!("{CANARY}-input"), db }
}

/// What the flow read back from its context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) n: u64,
    pub(crate) obj: Db,
    pub(crate) token: String,
    pub(crate) sent: String,
}

pub(crate) const NUMBER: u64 = 0x6361_6e61_7279_2137;

/// How often each body ran, and what the flow saw, kept where no file is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) ran: Arc<Mutex<Vec<&'static str>>>,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Notes {
    pub(crate) fn count(&self, name: &str) -> usize {
        self.ran.lock().iter().filter(|ran| **ran == name).count()
    }
}

/// Sets context values, takes a signal, then fails with a secret in the text as long as `fail` says.
pub(crate) fn register(flows: &Flows, notes: &Notes, fail: bool) -> FlowRef<Login, Seen> {
    let notes = notes.clone();
    flows.register("login", move |ctx, input| whole(ctx, input, notes.clone(), fail)).unwrap()
}

async fn whole(ctx: Ctx, input: Login, notes: Notes, fail: bool) -> FlowResult<Seen> {
    ctx.set("user", &input.user)?;
    ctx.set("pwd", &input.password)?;
    ctx.set("n", &NUMBER)?;
    ctx.set("obj", &input.db)?;
    let token = ctx
        .step("api_token", || async {
            notes.ran.lock().push("api_token");
            ctx.set("inner_token", &format!("{CANARY}-body"))?;
            Ok::<_, StepError>(format!("{CANARY}-result"))
        })
        .await?;
    let (sent,) = ctx.signal::<(Secret,)>("code").await?;
    let get = "set before";
    let seen = Seen {
        user: ctx.get("user")?.ok_or_else(|| StepError::permanent(get))?,
        password: ctx.get("pwd")?.ok_or_else(|| StepError::permanent(get))?,
        n: ctx.get("n")?.ok_or_else(|| StepError::permanent(get))?,
        obj: ctx.get("obj")?.ok_or_else(|| StepError::permanent(get))?,
        token,
        sent: sent.password,
    };
    notes.seen.lock().push(seen.clone());
    ctx.step("connect", || async {
        notes.ran.lock().push("connect");
        if fail {
            let inner = std::io::Error::other(format!("refused {CANARY}-cause"));
            let error = StepError::from(inner).context(format!("bad {}", input.db.password));
            return Err(error.into_permanent().with_code(format!("{CANARY}-code")));
        }
        Ok(())
    })
    .await?;
    Ok(seen)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) password: String,
}

pub(crate) fn secret() -> (Secret,) {
    (Secret { password: format!("{CANARY}-signal") },)
}

pub(crate) fn expected() -> Seen {
    let Login { user, password, db } = login();
    let (Secret { password: sent },) = secret();
    Seen { user, password, n: NUMBER, obj: db, token: format!("{CANARY}-result"), sent }
}

/// Every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                found.push((path, content));
            }
        }
    }
    found
}

pub(crate) fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

/// Lets tasks run until something is so.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(mut so: F) {
    for _ in 0..100_000 {
        if so().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be");
}
