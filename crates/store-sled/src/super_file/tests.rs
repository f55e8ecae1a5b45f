//! Which slot counts, and what damage to them means.

use std::fs;

use resurge_commit_log::OsVfs;
use resurge_store::ErrorKind;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("super")
    }

    fn create(&self) -> SuperFile {
        let slot = Slot::new([7; 16]);
        SuperFile::create(&OsVfs, &self.path(), &self.dir.path().join("super.tmp"), slot).unwrap()
    }

    fn read(&self) -> Result<Option<SuperRead>> {
        SuperFile::read(&OsVfs, &self.path())
    }

    fn damage_slot(&self, index: usize) {
        let mut bytes = fs::read(self.path()).unwrap();
        bytes[index * 4096 + 50] ^= 1;
        fs::write(self.path(), bytes).unwrap();
    }
}

#[test]
fn the_newest_slot_counts() {
    let f = Fixture::new();
    assert!(f.read().unwrap().is_none());
    let file = f.create();
    for seq in 1..=5 {
        file.note_high_water(seq).unwrap();
        assert_eq!(f.read().unwrap().unwrap().slot.high_water, seq);
    }
    file.update(|slot| slot.clean = true).unwrap();
    let read = f.read().unwrap().unwrap();
    assert!(read.slot.clean && read.damaged.is_none());
    assert_eq!(read.slot.store_id, [7; 16]);
}

#[test]
fn between_two_syncs_only_one_slot_is_written() {
    let f = Fixture::new();
    let file = f.create();
    file.note_high_water(1).unwrap();
    file.sync().unwrap();
    let synced = fs::read(f.path()).unwrap();
    for seq in 2..10 {
        file.note_high_water(seq).unwrap();
    }
    let now = fs::read(f.path()).unwrap();
    assert_eq!(synced[..4096], now[..4096], "the synced slot is untouched");
    assert_ne!(synced[4096..], now[4096..]);
}

#[test]
fn a_lower_high_water_is_not_noted() {
    let f = Fixture::new();
    let file = f.create();
    assert!(file.note_high_water(5).unwrap());
    assert!(!file.note_high_water(4).unwrap());
    assert!(!file.note_high_water(6).unwrap(), "dirty already");
    file.sync().unwrap();
    assert!(file.note_high_water(7).unwrap());
    assert_eq!(f.read().unwrap().unwrap().slot.high_water, 7);
}

#[test]
fn one_damaged_slot_is_survived_and_two_are_corrupt() {
    for first in 0..2 {
        let f = Fixture::new();
        let file = f.create();
        file.update(|slot| slot.high_water = 5).unwrap();
        file.update(|slot| slot.high_water = 6).unwrap();
        f.damage_slot(first);
        let read = f.read().unwrap().unwrap();
        assert!(read.damaged.is_some());
        assert_eq!(read.slot.high_water, if first == 0 { 6 } else { 5 });
        // Opening goes on in the damaged slot.
        let again = SuperFile::open(&OsVfs, &f.path(), &read).unwrap();
        again.update(|slot| slot.high_water = 9).unwrap();
        assert!(f.read().unwrap().unwrap().damaged.is_none());
        f.damage_slot(0);
        f.damage_slot(1);
        assert_eq!(f.read().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn every_truncation_is_corrupt_or_the_first_slot() {
    let f = Fixture::new();
    f.create();
    let whole = fs::read(f.path()).unwrap();
    for len in (0..whole.len()).step_by(61) {
        fs::write(f.path(), &whole[..len]).unwrap();
        match f.read() {
            Ok(read) => assert!(len >= SLOT_LEN && read.is_some()),
            Err(e) => assert!(len < SLOT_LEN && e.kind() == ErrorKind::Corrupt, "{len}: {e}"),
        }
    }
}
