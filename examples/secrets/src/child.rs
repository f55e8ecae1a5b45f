//! What runs in the child processes.

use std::future::pending;
use std::time::Duration;

use resurge::store_sled::{SledOptions, SledStore};
use resurge::{FlowError, FlowRef, FlowsOptions, KeyRing, Resurge, Sealer, Store};
use resurge_example_driver::Effects;
use resurge_secrets_example::{Account, Login, account, login, policy, sign_up};

use crate::Result;

const RUN: &str = "sign-up-1";
const FIRST: &[u8; 32] = b"the first key of this demo: 0001";
const SECOND: &[u8; 32] = b"another key for the same demo: 2";
const WRONG: &[u8; 32] = b"somebody else's key, not the 1st";

/// The keys of the ring `main`: its state is in the store, the keys are not.
async fn sealer(store: &Store, keys: &str) -> Result<Sealer> {
    let builder = KeyRing::builder();
    let ring = match keys {
        "none" => return Ok(Sealer::without_ring(policy()?)),
        "wrong" => builder.key(1, WRONG)?,
        "both" => builder.key(1, FIRST)?.key(2, SECOND)?,
        "new" => builder.key(2, SECOND)?,
        _ => builder.key(1, FIRST)?,
    };
    Ok(Sealer::new(ring.open(store, "main").await?, policy()?))
}

async fn open(
    dir: &str,
    effects: &str,
    keys: &str,
    hang: bool,
) -> Result<(Resurge, FlowRef<Login, Account>)> {
    let (backend, _) = SledStore::open(dir, SledOptions::new()).await?;
    let store = Store::new(backend);
    let sealer = sealer(&store, keys).await?;
    // A finished run is kept until it is swept, here as soon as somebody asks.
    let options = FlowsOptions { keep_finished: Duration::ZERO, ..FlowsOptions::default() };
    let app = Resurge::builder().sealer(sealer).flows(options).on(store);
    let effects = Effects::at(effects);
    let flow =
        app.register("sign-up", move |ctx, login| sign_up(ctx, login, effects.clone(), hang))?;
    app.start().await?;
    Ok((app, flow))
}

/// Starts the run, which fails, and waits to be killed.
#[tokio::main]
pub(crate) async fn fail(dir: &str, effects: &str, keys: &str) -> Result<()> {
    let (_app, flow) = open(dir, effects, keys, false).await?;
    let run = flow.start(RUN, login()).await?;
    match run.result().await {
        Err(FlowError::Failed { error, positions, .. }) => {
            // Whoever has the key may read it.
            let secret = error.message == format!("refused for {}", login().password);
            println!("failed at {positions:?}; the secret in its text: {secret}");
        }
        other => return Err(format!("it was to fail: {:?}", other.is_ok()).into()),
    }
    pending().await
}

/// Resumes the run, which waits in a step to be killed.
#[tokio::main]
pub(crate) async fn hang(dir: &str, effects: &str, keys: &str) -> Result<()> {
    let (_app, flow) = open(dir, effects, keys, true).await?;
    flow.run(RUN).resume().await?;
    pending().await
}

/// Waits for the end of the run, if it can go on.
#[tokio::main]
pub(crate) async fn finish(dir: &str, effects: &str, keys: &str) -> Result<()> {
    let (app, flow) = match open(dir, effects, keys, false).await {
        Ok(opened) => opened,
        Err(error) => {
            println!("not opened: {error}");
            return Ok(());
        }
    };
    match flow.run(RUN).result().await {
        Ok(got) => println!("finished, everything as it was: {}", got == account()),
        Err(error) => println!("{error}"),
    }
    app.shutdown().await?;
    Ok(())
}

/// Changes the key, as far as what is stored allows.
#[tokio::main]
pub(crate) async fn rotate(dir: &str, effects: &str, keys: &str) -> Result<()> {
    let (app, _flow) = open(dir, effects, keys, false).await?;
    let flows = app.flows()?;
    let ring = app.sealer().ring().ok_or("a ring is needed")?;
    ring.promote(2).await?;
    let job = flows.reencrypt()?;
    let count = job.count().await?;
    println!("promoted key 2; sealed with {count}");
    match ring.destroy(1, "rotated", &count).await {
        Ok(()) => return Err("key 1 was needed".into()),
        Err(refused) => println!("{refused}"),
    }
    let report = job.run().await?;
    println!("sealed anew: {}; sealed with {}", report.resealed, job.count().await?);
    match ring.destroy(1, "rotated", &job.count().await?).await {
        Ok(()) => return Err("key 1 was needed".into()),
        Err(refused) => println!("{refused}"),
    }
    println!("swept: {}; {}", flows.sweep().await?, job.count().await?);
    ring.destroy(1, "rotated", &job.count().await?).await?;
    println!("destroyed key 1");
    app.shutdown().await?;
    Ok(())
}

/// Runs another one from its beginning, with the new key alone.
#[tokio::main]
pub(crate) async fn again(dir: &str, effects: &str, keys: &str) -> Result<()> {
    let (app, flow) = open(dir, effects, keys, false).await?;
    let run = flow.start("sign-up-2", login()).await?;
    if run.result().await.is_ok() {
        return Err("it was to fail first".into());
    }
    let got = run.resume().await?.result().await?;
    println!("finished, everything as it was: {}", got == account());
    app.shutdown().await?;
    Ok(())
}
