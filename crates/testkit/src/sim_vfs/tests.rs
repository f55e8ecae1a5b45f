//! The simulator itself: what survives, what fails, and that it is always the same.

use std::path::Path;

use resurge_commit_log::{LockError, OpenMode, Vfs, VfsFile};

use super::{DiskFault, DiskLoss, SimOpKind, SimVfs};

const SUBSETS: std::ops::Range<u64> = 0..64;

fn path() -> &'static Path {
    Path::new("/dir/file")
}

fn create(disk: &SimVfs) -> Box<dyn VfsFile> {
    disk.create_dir_all("/dir".as_ref()).unwrap();
    disk.open(path(), OpenMode::CreateNew).unwrap()
}

/// A file with a durable name and durable content.
fn synced(content: &[u8]) -> (SimVfs, Box<dyn VfsFile>) {
    let disk = SimVfs::new();
    let file = create(&disk);
    file.write_at(content, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("/dir".as_ref()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    (disk, file)
}

#[test]
fn a_name_and_its_content_are_durable_each_by_its_own_sync() {
    let disk = SimVfs::new();
    let file = create(&disk);
    file.write_at(b"content", 0).unwrap();
    assert!(disk.power_cut(DiskLoss::All).files().is_empty());
    let disk = disk.fork();
    assert!(disk.operations() > 0 && disk.crashed());

    let (disk, file) = synced(b"content");
    assert_eq!(disk.power_cut(DiskLoss::All).contents(path()).unwrap(), b"content");
    assert!(file.write_at(b"x", 0).is_err(), "a handle of a machine without power");

    let disk = SimVfs::new();
    let file = create(&disk);
    file.write_at(b"content", 0).unwrap();
    disk.sync_dir("/dir".as_ref()).unwrap();
    assert!(disk.fork().power_cut(DiskLoss::All).files().is_empty(), "the directory has no name");
    disk.sync_dir("/".as_ref()).unwrap();
    assert_eq!(disk.power_cut(DiskLoss::All).contents(path()).unwrap(), b"", "no content");
    assert_eq!(disk.power_cut(DiskLoss::Nothing).contents(path()).unwrap(), b"content");
    assert_eq!(disk.kill().contents(path()).unwrap(), b"content");
    assert_eq!(
        disk.kill().power_cut(DiskLoss::All).contents(path()).unwrap(),
        b"",
        "still unsynced"
    );
}

#[test]
fn renames_are_whole_and_replace() {
    let (disk, _file) = synced(b"old");
    let new = disk.open("/dir/new".as_ref(), OpenMode::CreateNew).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync_data().unwrap();
    disk.rename("/dir/new".as_ref(), path()).unwrap();
    assert_eq!(disk.contents(path()).unwrap(), b"new");
    assert_eq!(disk.power_cut(DiskLoss::All).contents(path()).unwrap(), b"old");
    let mut seen = std::collections::BTreeSet::new();
    for seed in SUBSETS {
        seen.insert(disk.power_cut(DiskLoss::Subset { seed }).contents(path()).unwrap());
    }
    assert_eq!(seen, [b"new".to_vec(), b"old".to_vec()].into());
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let (disk, _file) = synced(b"moved");
    disk.create_dir_all("/other".as_ref()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    disk.rename(path(), "/other/file".as_ref()).unwrap();
    for seed in SUBSETS {
        assert!(!disk.power_cut(DiskLoss::Subset { seed }).files().is_empty(), "seed {seed}");
    }
    let disk = disk.fork().kill();
    disk.sync_dir("/dir".as_ref()).unwrap();
    assert_eq!(disk.power_cut(DiskLoss::All).files(), [Path::new("/other/file")]);
}

#[test]
fn sectors_survive_one_by_one_and_never_in_between() {
    let (disk, file) = synced(&[1; 2048]);
    file.write_at(&[2; 1000], 300).unwrap();
    file.write_at(&[3; 1000], 900).unwrap();
    let states = [[1; 2048].to_vec(), disk_after(&[(2, 300)]), disk_after(&[(2, 300), (3, 900)])];
    let mut mixed = 0;
    for seed in SUBSETS {
        let found = disk.power_cut(DiskLoss::Subset { seed }).contents(path()).unwrap();
        assert_eq!(found, disk.power_cut(DiskLoss::Subset { seed }).contents(path()).unwrap());
        for (n, sector) in found.chunks(512).enumerate() {
            let range = n * 512..(n + 1) * 512;
            assert!(states.iter().any(|s| &s[range.clone()] == sector), "seed {seed} sector {n}");
        }
        mixed += usize::from(!states.contains(&found));
    }
    assert!(mixed > 0, "the order was always kept");
}

fn disk_after(writes: &[(u8, usize)]) -> Vec<u8> {
    let mut bytes = vec![1; 2048];
    for (value, at) in writes {
        bytes[*at..at + 1000].fill(*value);
    }
    bytes
}

#[test]
fn a_torn_write_keeps_the_order_and_ends_between_sectors() {
    let (disk, file) = synced(&[1; 2048]);
    file.write_at(&[2; 1000], 300).unwrap();
    file.write_at(&[3; 1000], 900).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in SUBSETS {
        seen.insert(disk.power_cut(DiskLoss::Torn { seed }).contents(path()).unwrap());
    }
    let mut allowed = vec![disk_after(&[]), disk_after(&[(2, 300)])];
    for end in [512, 1024, 1300] {
        let mut torn = disk_after(&[]);
        torn[300..end].fill(2);
        allowed.push(torn);
    }
    for end in [1024, 1536, 1900] {
        let mut torn = disk_after(&[(2, 300)]);
        torn[900..end].fill(3);
        allowed.push(torn);
    }
    assert!(seen.iter().all(|s| allowed.contains(s)));
    assert!(seen.len() > 3, "{}", seen.len());
}

#[test]
fn a_lost_sync_is_readable_and_never_written() {
    let (disk, file) = synced(b"old");
    disk.fail_at(disk.operations() + 2, DiskFault::LostSync);
    file.write_at(b"new", 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok(), "the second one lies");
    assert_eq!(disk.contents(path()).unwrap(), b"new");
    assert_eq!(disk.power_cut(DiskLoss::Nothing).contents(path()).unwrap(), b"old");
    let killed = disk.kill();
    assert_eq!(killed.contents(path()).unwrap(), b"new");
    let again = killed.open(path(), OpenMode::ReadWrite).unwrap();
    again.sync_data().unwrap();
    assert_eq!(killed.fork().power_cut(DiskLoss::All).contents(path()).unwrap(), b"old");
    let evicted = killed.fork();
    evicted.evict();
    assert_eq!(evicted.contents(path()).unwrap(), b"old");
    again.write_at(b"new", 0).unwrap();
    again.sync_data().unwrap();
    assert_eq!(killed.power_cut(DiskLoss::All).contents(path()).unwrap(), b"new", "written again");
}

#[test]
fn a_sync_that_only_failed_can_be_repeated() {
    let (disk, file) = synced(b"old");
    disk.fail_at(disk.operations() + 2, DiskFault::Io);
    file.write_at(b"new", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.power_cut(DiskLoss::All).contents(path()).unwrap(), b"new");
}

#[test]
fn faults_hit_their_operation_once_or_for_ever() {
    let (disk, file) = synced(&[0; 1024]);
    let next = disk.operations() + 1;
    disk.fail_at(next, DiskFault::Io);
    assert!(file.len().is_err());
    assert!(file.len().is_ok());
    disk.fail_from(next, DiskFault::NoSpace);
    assert!(file.len().is_ok(), "needs no space");
    for _ in 0..2 {
        let full = file.write_at(&[1], 0).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }
    disk.clear_faults();
    disk.fail_at(disk.operations() + 1, DiskFault::ShortWrite);
    assert!(file.write_at(&[1; 1024], 0).is_err());
    assert_eq!(disk.contents(path()).unwrap(), [[1; 512], [0; 512]].concat());
}

#[test]
fn a_crash_stops_the_machine_before_or_within_an_operation() {
    let (whole, file) = synced(&[0; 1024]);
    file.write_at(&[1; 1024], 0).unwrap();
    let at = whole.operations();
    for within in [false, true] {
        let disk = SimVfs::new();
        if within {
            disk.crash_within(at);
        } else {
            disk.crash_at(at);
        }
        let file = create(&disk);
        file.write_at(&[0; 1024], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("/dir".as_ref()).unwrap();
        disk.sync_dir("/".as_ref()).unwrap();
        assert!(!disk.crashed());
        assert!(file.write_at(&[1; 1024], 0).is_err());
        assert!(disk.crashed() && file.len().is_err() && disk.exists(path()).is_err());
        let written: &[u8] = if within { &[1; 512] } else { &[] };
        let found = disk.kill().contents(path()).unwrap();
        assert_eq!(found, [written, &[0; 1024][written.len()..]].concat());
    }
}

#[test]
fn space_is_used_up_and_given_back() {
    let (disk, file) = synced(&[0; 1000]);
    disk.set_free_space(Some(500));
    assert_eq!(disk.free_space("/".as_ref()).unwrap(), Some(500));
    file.allocate(1000, 400).unwrap();
    let full = file.write_at(&[1; 300], 1400).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    file.write_at(&[1; 300], 0).unwrap();
    let disk = disk.kill();
    disk.remove_file(path()).unwrap();
    assert_eq!(disk.free_space("/".as_ref()).unwrap(), Some(1500));
}

#[test]
fn recycled_sectors_show_what_was_there_before() {
    for recycle in [false, true] {
        let (disk, _file) = synced(&[7; 4096]);
        disk.recycle_sectors(recycle);
        disk.remove_file(path()).unwrap();
        let file = disk.open(path(), OpenMode::CreateNew).unwrap();
        disk.sync_dir("/dir".as_ref()).unwrap();
        file.allocate(0, 4096).unwrap();
        let survivors = SUBSETS.map(|seed| disk.fork().power_cut(DiskLoss::Subset { seed }));
        let stale = survivors.filter(|d| d.contents(path()).unwrap().contains(&7)).count();
        assert_eq!(stale > 0, recycle);
        file.sync_data().unwrap();
        assert_eq!(
            disk.power_cut(DiskLoss::Subset { seed: 1 }).contents(path()).unwrap(),
            [0; 4096]
        );
    }
}

#[test]
fn one_holds_the_lock_until_it_is_dropped_or_the_machine_restarts() {
    let disk = SimVfs::new();
    let lock = disk.lock("/LOCK".as_ref()).unwrap();
    assert!(matches!(disk.lock("/LOCK".as_ref()), Err(LockError::Held)));
    drop(lock);
    let lock = disk.lock("/LOCK".as_ref()).unwrap();
    let killed = disk.kill();
    let again = killed.lock("/LOCK".as_ref()).unwrap();
    drop(lock);
    assert!(matches!(killed.lock("/LOCK".as_ref()), Err(LockError::Held)));
    drop(again);
}

#[test]
fn forks_are_independent_and_the_trace_tells_what_happened() {
    let (disk, file) = synced(b"common");
    let fork = disk.fork();
    fork.record();
    let other = fork.open(path(), OpenMode::ReadWrite).unwrap();
    other.write_at(b"fork", 0).unwrap();
    file.write_at(b"original", 0).unwrap();
    assert_eq!(fork.contents(path()).unwrap(), b"forkon");
    assert_eq!(disk.contents(path()).unwrap(), b"original");
    let kinds = fork.trace().iter().map(|op| op.kind).collect::<Vec<_>>();
    assert_eq!(kinds, [SimOpKind::Open, SimOpKind::Write]);
    assert!(disk.trace().is_empty());
}

#[test]
fn lengths_names_and_trees_behave_as_on_a_real_file_system() {
    let (disk, file) = synced(b"0123456789");
    file.set_len(4).unwrap();
    file.set_len(8).unwrap();
    assert_eq!(disk.contents(path()).unwrap(), b"0123\0\0\0\0");
    assert_eq!(disk.fork().power_cut(DiskLoss::All).contents(path()).unwrap(), b"0123456789");
    let mut buf = [9; 20];
    assert_eq!((file.read_at(&mut buf, 6).unwrap(), file.read_at(&mut buf, 8).unwrap()), (2, 0));
    file.write_at(b"z", 10_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_001);
    assert!(disk.open(path(), OpenMode::CreateNew).is_err());
    let reader = disk.open(path(), OpenMode::Read).unwrap();
    assert!(reader.write_at(b"x", 0).is_err());
    assert!(disk.open("/dir/absent".as_ref(), OpenMode::Read).is_err());
    assert!(disk.open("/absent/file".as_ref(), OpenMode::CreateNew).is_err());
    let listed = disk.list("/".as_ref()).unwrap();
    assert_eq!((listed.len(), listed[0].is_dir, &*listed[0].name), (1, true, "dir"));
    disk.create_dir_all("/dir/a/b".as_ref()).unwrap();
    disk.remove_dir_all("/dir".as_ref()).unwrap();
    assert!(!disk.exists("/dir".as_ref()).unwrap());
    assert_eq!(disk.power_cut(DiskLoss::All).files(), [path()]);
}
