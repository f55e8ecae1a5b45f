//! The README's example: run it, kill it at any point, run it again.
#![expect(clippy::print_stdout, clippy::unused_async, reason = "an example talks to its user")]

use std::time::Duration;

use resurge::{Ctx, FlowResult, Resurge, Retry};

async fn place_order(ctx: Ctx, item: String) -> FlowResult<String> {
    let held = ctx.step("reserve", || call("reserve", &item)).await?;
    let paid = ctx
        .step("charge", || call("charge", &held))
        .retry(Retry::exponential(Duration::from_millis(100)).max_attempts(5))
        .await?;
    ctx.step("ship", || call("ship", &paid)).await
}

async fn call(service: &str, what: &str) -> std::io::Result<String> {
    println!("{service} {what}"); // here a real one is called
    Ok(format!("{what}, then {service}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = Resurge::open("./state").await?;
    let orders = app.register("place-order", place_order)?;
    app.start().await?; // recovers what a crash interrupted
    let run = orders.start("order-42", "book".to_owned()).await?; // durable; the same id is the same run
    println!("done: {}", run.result().await?);
    app.shutdown().await?;
    Ok(())
}
