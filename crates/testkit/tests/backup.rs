//! Backing up on a disk that stops or fails at every single operation of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;

use resurge_commit_log::Vfs;
use resurge_store::{
    Batch, CommitSeq, Engine, Group, KeyRange, Namespace, Page, Result, ScanOptions, SeededEntropy,
};
use resurge_store_sled::{IndexKind, Maintenance, Offline, SledEngine, SledOptions};
use resurge_testkit::{DiskFault, DiskLoss, SimVfs, evidence};

const STATE: &str = "/data/state";
const BACKUP: &str = "/backups/monday";
const RESTORED: &str = "/data/restored";

fn options(disk: &SimVfs) -> SledOptions {
    SledOptions::new()
        .index(IndexKind::Memory)
        .maintenance(Maintenance::Inline)
        .vfs(Arc::new(disk.clone()))
        .entropy(Arc::new(SeededEntropy::new(11)))
        .boot_id(None)
        .segment_sizes(8192, 16384)
        .ballast(0)
        .free_space_reserve(0)
}

fn open(disk: &SimVfs, path: &str) -> Result<SledEngine> {
    Ok(SledEngine::open(Path::new(path), options(disk))?.0)
}

/// Two keys that always hold the same number, and one that grows the log.
fn commit(engine: &SledEngine, n: u64) -> Result<()> {
    let ns = Namespace::new("app").unwrap();
    let mut batch = Batch::new();
    let number = n.to_be_bytes().to_vec();
    batch.put(ns.key("a").unwrap(), number.clone());
    batch.put(ns.key(format!("m{}", n % 7)).unwrap(), vec![n.to_be_bytes()[7]; 700]);
    batch.put(ns.key("z").unwrap(), number);
    let group = Arc::new(Group { first: CommitSeq(n), batches: vec![batch] });
    engine.log(&group)?;
    engine.sync()?;
    engine.publish(&group)
}

fn state(engine: &SledEngine) -> Page {
    let page = engine.scan(&KeyRange::everything(), &ScanOptions::new()).unwrap();
    assert!(page.next.is_none());
    page
}

/// Three images, a log that was cut and goes on behind them.
fn disk_with_store() -> SimVfs {
    let disk = SimVfs::new();
    let engine = open(&disk, STATE).unwrap();
    for n in 1..=40 {
        commit(&engine, n).unwrap();
        if n % 12 == 0 {
            engine.image_now().unwrap();
        }
    }
    assert!(engine.status().log_first_seq > 1);
    engine.close().unwrap();
    disk
}

/// What a backup without trouble takes: operations before it, operations with it, the state in it.
fn whole(base: &SimVfs) -> (u64, u64, Page) {
    let disk = base.fork();
    let engine = open(&disk, STATE).unwrap();
    let before = disk.operations();
    let report = engine.backup(BACKUP).unwrap();
    assert_eq!((report.seq.0, report.from_image.unwrap().0), (40, 36));
    (before, disk.operations(), state(&engine))
}

/// A backup that returned is there and whole; any other one is whole or is refused.
fn judge(disk: &SimVfs, returned: bool, expected: &Page, what: &str) -> bool {
    let source = open(disk, STATE).unwrap_or_else(|e| panic!("{what}: the source: {e}"));
    assert!(state(&source) == *expected, "{what}: the source");
    let offline = Offline::new().options(options(disk));
    match offline.restore(BACKUP, RESTORED) {
        Ok(report) => {
            assert_eq!(report.seq.0, 40, "{what}");
            let restored = open(disk, RESTORED).unwrap();
            assert!(state(&restored) == *expected, "{what}: restored");
            true
        }
        Err(e) => {
            assert!(!returned, "{what}: it had returned: {e}");
            assert!(!disk.exists(Path::new(RESTORED)).unwrap(), "{what}");
            false
        }
    }
}

#[test]
fn a_crash_at_any_operation_leaves_a_whole_backup_or_none() {
    let base = disk_with_store();
    let (before, after, expected) = whole(&base);
    let (mut cases, mut there) = (0_u64, 0_u64);
    for k in before + 1..=after + 1 {
        let disk = base.fork();
        disk.crash_at(k);
        let engine = open(&disk, STATE).unwrap();
        let returned = engine.backup(BACKUP).is_ok();
        assert_eq!(returned, k > after, "operation {k}");
        let ends = [
            ("killed", disk.kill()),
            ("all lost", disk.power_cut(DiskLoss::All)),
            ("none lost", disk.power_cut(DiskLoss::Nothing)),
            ("some lost", disk.power_cut(DiskLoss::Subset { seed: k })),
            ("torn", disk.power_cut(DiskLoss::Torn { seed: k })),
        ];
        for (end, disk) in ends {
            there += u64::from(judge(&disk, returned, &expected, &format!("operation {k}, {end}")));
            cases += 1;
        }
    }
    assert!(there >= 5 && there < cases / 4, "{there} of {cases}");
    let line = format!("{cases} crash states of a backup: {there} whole, the others refused");
    evidence("backup-crash-states", &line);
}

#[test]
fn a_failure_at_any_operation_costs_that_backup_only() {
    let base = disk_with_store();
    let (before, after, expected) = whole(&base);
    let mut failed = 0_u64;
    for fault in [DiskFault::Io, DiskFault::NoSpace, DiskFault::ShortWrite, DiskFault::LostSync] {
        for k in before + 1..=after {
            let disk = base.fork();
            disk.fail_at(k, fault);
            let engine = open(&disk, STATE).unwrap();
            if engine.backup(BACKUP).is_err() {
                failed += 1;
                let what = format!("{fault:?} at operation {k}");
                engine.backup(BACKUP).unwrap_or_else(|e| panic!("{what}: again: {e}"));
            }
            commit(&engine, 41).unwrap();
            engine.close().unwrap();
            drop(engine);
            // The next commit is not in it.
            let cut = disk.power_cut(DiskLoss::All);
            let offline = Offline::new().options(options(&cut));
            assert_eq!(offline.restore(BACKUP, RESTORED).unwrap().seq.0, 40);
            assert!(state(&open(&cut, RESTORED).unwrap()) == expected);
        }
    }
    assert!(failed > after - before, "{failed}");
    evidence("backup-failures", &format!("{failed} failing operations of a backup, all harmless"));
}
