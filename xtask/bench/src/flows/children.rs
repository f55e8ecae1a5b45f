//! Parts that run in a process of their own: to be killed, or to have their memory to themselves.

use std::path::Path;
use std::process::Command;

use resurge_store_sled::IndexKind;

use super::{interrupted, throughput, waiting};
use crate::{FULL, QUICK, Result};

/// The first argument of such a process.
pub(crate) const CHILD: &str = "flows-child";

pub(crate) fn child(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["throughput", kind, n, scale] => {
            let scale = if scale == QUICK.name { QUICK } else { FULL };
            throughput(index(kind), n.parse()?, scale)
        }
        ["interrupt", kind, dir] => interrupted::child(index(kind), Path::new(dir)),
        ["wait", kind, dir] => waiting::begin(index(kind), Path::new(dir)),
        ["waiting", kind, dir] => waiting::evicted(index(kind), Path::new(dir)),
        ["resident", kind, dir] => waiting::resident(index(kind), Path::new(dir)),
        _ => Err(format!("no part {args:?}").into()),
    }
}

fn index(kind: &str) -> IndexKind {
    if kind == "sled" { IndexKind::Sled } else { IndexKind::Memory }
}

pub(super) fn command(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CHILD).args(args);
    Ok(command)
}

/// What such a process printed.
pub(super) fn output(args: &[&str]) -> Result<String> {
    let child = command(args)?.output()?;
    if child.status.success() {
        Ok(String::from_utf8_lossy(&child.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&child.stderr).into_owned().into())
    }
}
