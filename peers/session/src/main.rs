//! Tokens and sessions, ours and others', in one run: `cargo run --release [-- --quick] [SECTION]...`.
//!
//! Sections: `tokens` (computing alone; as the breakers are measured), `stores` (sessions in stores, with
//! 1, 8 and 64 operations in flight), `cleanup` (a million expired sessions, while others come back).

#[path = "../../breaker/src/alloc.rs"]
mod alloc;
mod cleanup;
mod drive;
#[path = "../../breaker/src/measure.rs"]
mod measure;
mod shelf;
mod state;
mod stores;
mod tokens;

use std::sync::Arc;

use measure::Case;
use state::Result;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

type Section = (&'static str, fn(bool) -> Result<()>);

const SECTIONS: [Section; 3] =
    [("tokens", run_tokens), ("stores", stores::run), ("cleanup", cleanup::run)];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, args @ ..] = args.as_slice()
        && child == cleanup::CHILD
    {
        return cleanup::child(args);
    }
    let (options, names): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with('-'));
    let quick = !options.is_empty();
    let known = |name: &&String| SECTIONS.iter().any(|(known, _)| known == name);
    if options.iter().any(|option| *option != "--quick") || !names.iter().all(known) {
        let sections: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
        let sections = sections.join(" | ");
        return Err(format!("usage: resurge-session-peers [--quick] [{sections}]...").into());
    }
    state::check()?;
    for (name, run) in SECTIONS {
        if names.is_empty() || names.iter().any(|wanted| *wanted == name) {
            println!("== session: {name}");
            run(quick)?;
            println!();
        }
    }
    Ok(())
}

fn run_tokens(quick: bool) -> Result<()> {
    let rounds = if quick { 20 } else { 300 };
    let peers = Arc::new(tokens::Peers::new()?);
    let mut floor = tokens::floor()?;
    let mut tables = vec![("mint", tokens::mint(&peers)?)];
    tables.extend(tokens::verify(&peers)?);
    tables.extend(tokens::sealed(&peers)?);
    tables.extend(tokens::sessions()?);
    for round in 0..rounds {
        floor.iter_mut().for_each(Case::round);
        for (title, cases) in &mut tables {
            // A call of some of these takes longer than a whole round of the others.
            if *title != tokens::GARBAGE_TITLE || round % 20 == 0 {
                cases.iter_mut().for_each(Case::round);
            }
        }
    }
    let mac = floor.first().map_or(f64::NAN, Case::alone);
    show("floor", &floor, mac);
    tables.iter().for_each(|(title, cases)| show(title, cases, mac));
    println!(
        "\nns a call; x: of one keyed HMAC-SHA256 over a header; rounds: {rounds}, and of two threads those counted"
    );
    Ok(())
}

fn show(title: &str, cases: &[Case], floor: f64) {
    println!(
        "\n{title:<34} {:>10} {:>8} {:>10} {:>8} {:>8} {:>7}",
        "1 thread", "x", "2 threads", "x", "allocs", "rounds"
    );
    for case in cases {
        let (alone, two) = (case.alone(), case.two());
        println!(
            "  {:<32} {alone:>10.0} {:>8.1} {two:>10.0} {:>8.1} {:>8.1} {:>7}",
            case.name,
            alone / floor,
            two / floor,
            case.allocations,
            case.together()
        );
    }
}
