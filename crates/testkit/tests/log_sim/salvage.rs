//! Crashes while a damaged log is salvaged: the valid prefix stays, whole, and nothing else.

use std::path::Path;
use std::sync::Arc;

use resurge_commit_log::{Frame, Log, LogError, OpenedLog, Result};
use resurge_testkit::{DiskLoss, SimVfs};

use crate::crash::After;
use crate::damage::{Subject, options};
use crate::life::DIR;

fn open(disk: &SimVfs, salvage: bool, high_water: u64) -> Result<(Log, OpenedLog)> {
    let options = options().salvage(salvage);
    Log::open(Arc::new(disk.clone()), Path::new(DIR), options, high_water)
}

/// Harms the log in many places, one at a time, and crashes each salvage at every operation.
/// Returns the number of states.
pub(crate) fn run(subject: &Subject) -> std::result::Result<u64, String> {
    let mut states = 0;
    for path in subject.segments() {
        let whole = subject.read(&path);
        for at in (0..whole.len()).step_by(701) {
            let mut content = whole.clone();
            content[at] ^= 0x10;
            let disk = subject.disk();
            disk.damage(&path, &content).map_err(|e| e.to_string())?;
            let case = format!("{} harmed at {at}", path.display());
            states += crash_everywhere(subject, &disk).map_err(|bug| format!("{case}: {bug}"))?;
        }
    }
    Ok(states)
}

fn crash_everywhere(subject: &Subject, harmed: &SimVfs) -> std::result::Result<u64, String> {
    let whole = harmed.fork();
    whole.record();
    let (log, report) = open(&whole, true, 0).map_err(|e| format!("salvage: {e:?}"))?;
    let last = log.last_seq();
    subject.check_prefix(&log, last)?;
    if last < subject.acked() && report.salvaged.is_none() && report.tail_cut.is_none() {
        return Err(format!("ends at {last}, and nobody says so"));
    }
    drop(log);
    let mut states = 0;
    let effects = (1..).zip(whole.trace()).filter(|(_, op)| op.kind.has_effect());
    for op in effects.map(|(op, _)| op).chain([u64::MAX]) {
        let disk = harmed.fork();
        disk.crash_at(op);
        drop(open(&disk, true, 0));
        let random = (op..op.saturating_add(3))
            .flat_map(|seed| [DiskLoss::Subset { seed }, DiskLoss::Torn { seed }]);
        let cuts = [DiskLoss::All].into_iter().chain(random).map(After::Cut);
        for after in cuts.chain([After::Kill]) {
            let survivor = after.of(&disk);
            let bug = |what: String| format!("crash at {op}, then {after:?}: {what}");
            match open(&survivor.fork(), false, 0) {
                // Not done yet.
                Err(LogError::Corrupt { .. }) if op != u64::MAX => {}
                Err(e) => return Err(bug(format!("{e:?}"))),
                Ok((log, _)) => subject.check_prefix(&log, last).map_err(bug)?,
            }
            let (mut log, _) =
                open(&survivor, true, 0).map_err(|e| bug(format!("again: {e:?}")))?;
            subject.check_prefix(&log, last).map_err(bug)?;
            let mut frame = Frame::new();
            let appended = frame.push(b"life goes on").and_then(|()| log.append(&mut frame));
            appended.and_then(|_| log.sync()).map_err(|e| bug(format!("{e:?}")))?;
            drop(log);
            let (log, _) = open(&survivor.power_cut(DiskLoss::All), false, last + 1)
                .map_err(|e| bug(format!("after all: {e:?}")))?;
            if log.last_seq() != last + 1 {
                return Err(bug(format!("ends at {}, not {}", log.last_seq(), last + 1)));
            }
            states += 1;
        }
    }
    Ok(states)
}
