//! The child: the server, on the port and the directory it is given, until it is killed.
//!
//! Its input says `hold POINT`, which makes it stand still there, or `held TOKEN`, which it answers with the state
//! behind that token. The end of the input stops it in order.

use std::net::{Ipv4Addr, SocketAddr};

use resurge::{KeyRing, Resurge, Sealer, SensitivePolicy, SessionManager, Token};
use resurge_reconnect_example::{Counter, Hold, Point, service};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::Result;

/// Where the keys are: outside of the program, and of its directory.
pub(crate) const KEYS: &str = "RECONNECT_KEYS";

#[tokio::main]
pub(crate) async fn run(dir: &str, port: &str) -> Result<()> {
    // What is ours as chatty as can be: nothing it says may be a secret.
    let filter = EnvFilter::new("warn,resurge=trace");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();

    let sealer = Sealer::new(KeyRing::from_env(KEYS)?, SensitivePolicy::new());
    let app = Resurge::builder().sealer(sealer).open(dir).await?;
    let sessions = app.sessions("counters", |builder| builder.seal_states(true)).await?;
    let hold = Hold::default();

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let listener = TcpListener::bind(address).await?;
    println!("ready");
    tokio::select! {
        served = axum::serve(listener, service(sessions.clone(), hold.clone())) => served?,
        obeyed = obey(&sessions, &hold) => obeyed?,
    }
    Ok(app.shutdown().await?)
}

async fn obey(sessions: &SessionManager, hold: &Hold) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_once(' ') {
            Some(("hold", point)) => {
                let points = [Point::Recovered, Point::Clicked, Point::Saved];
                let point = points.into_iter().find(|known| format!("{known:?}") == point);
                hold.at(point.ok_or("no such point")?);
                println!("will hold");
            }
            Some(("held", token)) => match sessions.peek::<Counter>(&Token::from(token)).await {
                Ok(found) => {
                    println!("held count={} by={}", found.state.count, found.state.visitor);
                }
                Err(error) => println!("held nothing: {error}"),
            },
            _ => return Err("an unknown command".into()),
        }
    }
    Ok(())
}
