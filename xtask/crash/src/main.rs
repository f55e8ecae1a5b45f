//! The program that is killed again and again, and the parent that checks what it acknowledged.
//!
//! `resurge-crash --cycles 200` starts itself as a child on one directory, kills it with SIGKILL at
//! a random moment, opens what it left, and looks for everything the child had acknowledged; then
//! goes on with the same directory. The last line is
//! `cycles=200 acknowledged=123456 lost=0 unopenable=0`; any loss, half-applied batch, disorder or
//! failed open makes the exit code non-zero and keeps the directory. `--plant early-batch`
//! (`early-log`, `early-event`, `half`) makes the child misbehave, to see that it is caught.
//!
//! `resurge-crash flows --cycles 100` kills a program that runs workflows, `resurge-crash sessions` a
//! server whose clients come back.
//!
//! `resurge-crash powercut --cycles 40` does the same with power cuts, on ext4 and on XFS;
//! `--plant no-sync` is found only there.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod batches;
mod child;
mod flows;
mod log;
mod machine;
mod parent;
mod powercut;
mod sessions;
mod unsynced;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = match &args[..] {
        ["child", dir, cycle, planted, ending] => {
            return child::main(dir, cycle, planted, ending);
        }
        ["flows-child", dir, cycle, planted] => return flows::child(dir, cycle, planted),
        ["flows", args @ ..] => flows::main(args),
        ["sessions-child", dir, socket, cycle, hour, planted] => {
            return sessions::child(dir, socket, cycle, hour, planted);
        }
        ["sessions", args @ ..] => sessions::main(args),
        ["powercut", args @ ..] => powercut::main(args),
        ["powercut-inside", dir, args @ ..] => powercut::inside(dir, args),
        args => parent::Settings::parse(args).and_then(|settings| parent::run(&settings)),
    };
    ended.unwrap_or_else(|e| {
        eprintln!("resurge-crash: {e}");
        ExitCode::FAILURE
    })
}
