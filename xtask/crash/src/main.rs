//! The program that is killed again and again, and the parent that checks what it acknowledged.
//!
//! `resurge-crash --cycles 200` starts itself as a child on one directory, kills it with SIGKILL at
//! a random moment, opens what it left, and looks for everything the child had acknowledged; then
//! goes on with the same directory. The last line is
//! `cycles=200 acknowledged=123456 lost=0 unopenable=0`; any loss, half-applied batch, disorder or
//! failed open makes the exit code non-zero and keeps the directory. `--plant early-batch`
//! (`early-log`, `early-event`, `half`) makes the child misbehave, to see that it is caught.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod batches;
mod child;
mod log;
mod machine;
mod parent;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["child", dir, cycle, planted] = args[..] {
        return child::main(dir, cycle, planted);
    }
    match parent::Settings::parse(&args).and_then(|settings| parent::run(&settings)) {
        Ok(clean) if clean => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("resurge-crash: {e}");
            ExitCode::FAILURE
        }
    }
}
