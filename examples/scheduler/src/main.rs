//! A job scheduler as a journaled state machine that survives kill -9.

fn main() {}
