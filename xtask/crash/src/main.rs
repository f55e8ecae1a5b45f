//! The program that is killed again and again, and the parent that checks what it acknowledged.

fn main() {}
