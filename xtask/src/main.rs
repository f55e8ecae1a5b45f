//! Developer commands: demo, test, ci, bench, crash, docs.

fn main() {}
