//! The closed path of circuit breakers, ours and others', in one run: `cargo run --release [-- --quick]`.
//!
//! One thread: the best round of many. Two threads on one circuit: the median of the rounds in which
//! both ran together. Ratios are to one uncontended atomic add of the same run.

mod alloc;
mod cases;
mod measure;
mod poll;

use std::error::Error;

use measure::Case;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => 300,
        [quick] if quick == "--quick" => 30,
        _ => return Err("usage: resurge-breaker-peers [--quick]".into()),
    };
    let mut floor = cases::floor();
    let mut tables = [
        ("a call", cases::calls()?),
        ("a future that is ready", cases::futures()?),
        ("a request through a tower layer", cases::layers()?),
        ("40,000 calls in a time window", cases::time_windows()?),
    ];
    for _ in 0..rounds {
        floor.iter_mut().for_each(Case::round);
        tables.iter_mut().flat_map(|(_, cases)| cases).for_each(Case::round);
    }
    let add = floor.first().map_or(f64::NAN, Case::alone);
    show("floor", &floor, add);
    tables.iter().for_each(|(title, cases)| show(title, cases, add));
    println!(
        "\nns a call; x: of one uncontended atomic add; rounds: {rounds}, and of two threads those counted"
    );
    Ok(())
}

fn show(title: &str, cases: &[Case], add: f64) {
    println!(
        "\n{title:<32} {:>10} {:>8} {:>10} {:>8} {:>8} {:>7}",
        "1 thread", "x", "2 threads", "x", "allocs", "rounds"
    );
    for case in cases {
        let (alone, two) = (case.alone(), case.two());
        println!(
            "  {:<30} {alone:>10.1} {:>8.1} {two:>10.1} {:>8.1} {:>8.1} {:>7}",
            case.name,
            alone / add,
            two / add,
            case.allocations,
            case.together()
        );
    }
}
