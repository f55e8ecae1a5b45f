//! The files beside log, images and index.

use std::io;
use std::path::Path;

use resurge_commit_log::OpenMode;
use resurge_store::Result;

use super::{Check, Severity};
use crate::error::io_error;
use crate::quarantine::QuarantineStatus;
use crate::super_file::{SLOT_DISTANCE, SLOT_LEN, Slot, SuperFile};

pub(super) const LEFTOVER: &str = "leftover of an interrupted run; the next open removes it";
pub(super) const UNKNOWN: &str = "no file of a store";
const CHUNK: usize = 256 << 10;

impl Check<'_> {
    /// Both slots and the zeros around them. `None` when neither slot is valid.
    pub(super) fn super_file(&mut self) -> Option<Slot> {
        let path = self.layout.super_file.clone();
        let slots = match SuperFile::slots(&**self.vfs, &path) {
            Ok(slots) => slots,
            Err(e) => {
                self.found(Severity::Fatal, &path, None, e);
                return None;
            }
        };
        let (mut found, mut damaged) = (None::<Slot>, Vec::new());
        let mut two_stores = false;
        for (slot, offset) in slots.into_iter().zip([0, SLOT_DISTANCE]) {
            match slot {
                Ok(slot) => {
                    two_stores = found.is_some_and(|other| other.store_id != slot.store_id);
                    let older = found.is_some_and(|other| other.generation > slot.generation);
                    found = if older { found } else { Some(slot) };
                }
                Err(what) => damaged.push((offset, what)),
            }
        }
        let worst = if damaged.len() == 2 { Severity::Fatal } else { Severity::Damage };
        for (offset, what) in damaged {
            let what = format!("{what} (a power loss may leave one slot like this)");
            self.found(worst, &path, Some(offset), what);
        }
        if two_stores {
            self.found(Severity::Fatal, &path, None, "its slots name two different stores");
            return None;
        }
        let slot_len = SLOT_LEN as u64;
        let gaps = [(slot_len, SLOT_DISTANCE), (SLOT_DISTANCE + slot_len, 2 * SLOT_DISTANCE)];
        self.zeros(&path, &gaps, "bytes beside the slots");
        found
    }

    /// What lies in the directory itself.
    pub(super) fn root_files(&mut self) -> Result<()> {
        for entry in self.list(&self.layout.root)? {
            let path = self.layout.root.join(&entry.name);
            match (entry.name.as_str(), entry.is_dir) {
                ("LOCK", false) => {
                    self.report.read(entry.len);
                    if entry.len > 0 {
                        self.found(Severity::Note, &path, Some(0), "it holds something");
                    }
                }
                ("super", false) => {
                    self.report.read(entry.len);
                    if entry.len != 2 * SLOT_DISTANCE {
                        let what = format!("it has {} bytes, not 8192", entry.len);
                        self.found(Severity::Damage, &path, None, what);
                    }
                }
                ("super.tmp", false) => self.found(Severity::Note, &path, None, LEFTOVER),
                ("ballast", false) => {
                    self.report.read(entry.len);
                    self.zeros(&path, &[(0, entry.len)], "the ballast");
                }
                ("log" | "images" | "index" | "quarantine", true) => {}
                _ => self.found(Severity::Note, &path, None, UNKNOWN),
            }
        }
        self.quarantined()
    }

    fn quarantined(&mut self) -> Result<()> {
        let dir = self.layout.quarantine.clone();
        let mut status = QuarantineStatus::default();
        for entry in self.list(&dir)? {
            status.files += 1;
            status.bytes = status.bytes.saturating_add(entry.len);
            let what = format!("kept for people to look at, {} bytes", entry.len);
            self.found(Severity::Note, &dir.join(&entry.name), None, what);
        }
        self.report.quarantine = status;
        Ok(())
    }

    pub(super) fn index_unread(&mut self) -> Result<()> {
        let dir = &self.layout.index;
        if self.vfs.exists(dir).map_err(io_error("look for", dir))? {
            self.report.index = super::IndexCheck::NotChecked;
        }
        Ok(())
    }

    /// Looks for the first byte in each range that is not zero.
    fn zeros(&mut self, path: &Path, ranges: &[(u64, u64)], whose: &str) {
        for &(from, to) in ranges {
            match self.first_not_zero(path, from, to) {
                Ok(None) => {}
                Ok(Some(at)) => {
                    let what = format!("{whose}: not the zeros that were written");
                    self.found(Severity::Damage, path, Some(at), what);
                }
                // Cut short: a finding already.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(e) => {
                    let what = format!("cannot be read: {e}");
                    self.found(Severity::Damage, path, Some(from), what);
                }
            }
        }
    }

    fn first_not_zero(&self, path: &Path, from: u64, to: u64) -> io::Result<Option<u64>> {
        let file = self.vfs.open(path, OpenMode::Read)?;
        let mut buf = vec![0; CHUNK];
        let mut at = from;
        while at < to {
            let n = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            buf.resize(n, 0);
            file.read_exact_at(&mut buf, at)?;
            if let Some(found) = buf.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + found as u64));
            }
            at += n as u64;
        }
        Ok(None)
    }
}
