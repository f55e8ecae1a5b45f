//! Benchmarks beside the raw fdatasync floor of the same run.

fn main() {}
