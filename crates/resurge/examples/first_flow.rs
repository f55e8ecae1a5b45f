//! The guide's first flow: it waits in its second step, so that you can kill it there.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use resurge::{Ctx, FlowResult, Resurge, StepError};

async fn place_order(ctx: Ctx, item: String) -> FlowResult<String> {
    let shelf = ctx
        .step("reserve", || async {
            println!("reserving a {item}");
            Ok::<_, StepError>(7)
        })
        .await?;
    let receipt = ctx
        .step("charge", || async {
            println!("charging; kill me now, or press Enter to let the payment through");
            read_a_line().await?;
            Ok::<_, StepError>(format!("receipt for a {item}"))
        })
        .await?;
    ctx.step("ship", || async {
        println!("shipping from shelf {shelf}");
        Ok::<_, StepError>(())
    })
    .await?;
    Ok(receipt)
}

async fn read_a_line() -> FlowResult<()> {
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    read.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = Resurge::open("./state").await?;
    let orders = app.register("place-order", place_order)?;
    let recovered = app.start().await?;
    println!("{} unfinished runs found", recovered.unfinished);

    let run = orders.start("order-42", "book".to_owned()).await?;
    println!("done: {}", run.result().await?);
    app.shutdown().await?;
    Ok(())
}
