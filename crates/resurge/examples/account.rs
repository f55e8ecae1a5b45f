//! A state machine in a journal: run it, kill it at any point, run it again.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use resurge::{PlainMachine, Resurge};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
}

impl PlainMachine for Account {
    type Event = i64;
    fn apply(&mut self, change: &i64) {
        self.balance += change;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = Resurge::open("./state").await?;
    let (account, recovered) = app.journal::<Account>("account").await?;
    println!("{} events replayed", recovered.replayed);
    account.record(100).await?; // on disk when it returns: kill -9 loses nothing
    println!("the balance is {}", account.read(|a| a.balance).await?);
    Ok(())
}
