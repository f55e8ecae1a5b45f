//! What is asked of the service, and what must come back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use resurge_breaker::{Breaker, State};
use resurge_breaker_http_example::{BACKEND, Backend, config, service};
use resurge_example_driver::Expectations;
use resurge_store::VirtualClock;
use tokio::net::TcpListener;

use crate::Result;
use crate::client::{Answer, get};

const OK: Answer = Answer { status: 200, retry_after: None };
const FAILED: Answer = Answer { status: 502, retry_after: None };

fn refused(retry_after: u64) -> Answer {
    Answer { status: 503, retry_after: Some(retry_after) }
}

struct Demo {
    address: SocketAddr,
    breaker: Breaker,
    backend: Arc<Backend>,
    /// The breaker's time; the requests are real.
    clock: VirtualClock,
    expect: Expectations,
}

pub(crate) async fn run() -> Result<()> {
    let clock = VirtualClock::new();
    let breaker = Breaker::builder(BACKEND).config(config()).clock(clock.clone()).build()?;
    let backend = Arc::new(Backend::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, service(breaker.clone(), Arc::clone(&backend)));
    let server = tokio::spawn(server.into_future());
    let mut demo = Demo { address, breaker, backend, clock, expect: Expectations::new() };
    demo.story().await?;
    server.abort();
    println!("\n{} expectations held.", demo.expect.verdict()?);
    Ok(())
}

impl Demo {
    async fn story(&mut self) -> Result<()> {
        println!("=== The gateway is well ===\n");
        self.charge(2, OK, 1, State::Closed).await?;

        println!("\n=== It breaks: three failures in a row, and the circuit opens ===\n");
        self.backend.set_down(true);
        self.charge(2, FAILED, 1, State::Closed).await?;
        self.charge(1, FAILED, 1, State::Open).await?;

        println!("\n=== Open: answered at once, and the gateway is left alone ===\n");
        self.charge(3, refused(30), 0, State::Open).await?;
        self.later(10);
        self.charge(1, refused(20), 0, State::Open).await?;
        let health = get(self.address, "/health").await?;
        println!("GET /health  {health}  (not behind the breaker)");
        self.expect.equal("health while open", health, OK);

        println!("\n=== Half-open: one probe fails, and it is open for twice as long ===\n");
        self.later(20);
        self.charge(1, FAILED, 1, State::Open).await?;
        self.charge(2, refused(60), 0, State::Open).await?;

        println!(
            "\n=== Mended: two probes are let through, no more, until they are answered ===\n"
        );
        self.backend.set_down(false);
        self.later(60);
        self.probes().await?;

        println!("\n=== Closed again ===\n");
        self.charge(2, OK, 1, State::Closed).await?;
        let metrics = self.breaker.metrics();
        println!(
            "rejected {}, the gateway was called {} times",
            metrics.rejected,
            self.backend.calls()
        );
        self.expect.equal("rejected", metrics.rejected, 7);
        self.expect.equal("calls of the gateway", self.backend.calls(), 10);
        Ok(())
    }

    /// Two probes wait for the gateway; a third request is refused meanwhile.
    async fn probes(&mut self) -> Result<()> {
        let before = self.backend.calls();
        self.backend.set_slow(true);
        let address = self.address;
        let [one, two] = [0, 1].map(|_| tokio::spawn(async move { get(address, "/charge").await }));
        while self.backend.calls() < before + 2 {
            tokio::task::yield_now().await;
        }
        println!("2 probes wait for the gateway");
        let third = get(address, "/charge").await?;
        println!("GET /charge  {third}  (refused: the probes are taken)");
        self.expect.equal("a third probe", third.status, 503);
        self.expect.equal("calls by a third probe", self.backend.calls(), before + 2);
        self.expect.equal("state while probing", self.breaker.state(), State::HalfOpen);
        self.backend.set_slow(false);
        self.backend.answer(2);
        for probe in [one, two] {
            let answer = probe.await??;
            println!("GET /charge  {answer}  (a probe)");
            self.expect.equal("a probe", answer, OK);
        }
        self.expect.equal("state after the probes", self.breaker.state(), State::Closed);
        Ok(())
    }

    /// Asks `times` times and says what came back, how often the gateway was called for each, and
    /// what the circuit did.
    async fn charge(&mut self, times: u64, wanted: Answer, calls: u64, state: State) -> Result<()> {
        for _ in 0..times {
            let before = self.backend.calls();
            let answer = get(self.address, "/charge").await?;
            let called = self.backend.calls() - before;
            let now = self.breaker.state();
            println!("GET /charge  {answer}  (gateway called: {called}, circuit {now})");
            self.expect.equal("answer", &answer, &wanted);
            self.expect.equal(format!("calls of the gateway for {answer}"), called, calls);
            self.expect.equal(format!("state after {answer}"), now, state);
        }
        Ok(())
    }

    fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        println!("-- {seconds} seconds later --");
    }
}
