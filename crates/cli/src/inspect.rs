//! What a store holds, in one document.

use std::collections::BTreeMap;
use std::fmt;

use resurge_store::{KeyRange, ScanOptions, Store};
use resurge_store_sled::{Loaded, VerifyReport};
use serde::Serialize;

/// Names are read in portions of this many.
const NAMES: usize = 256;

#[derive(Serialize)]
pub(crate) struct Inspection {
    files: VerifyReport,
    /// `None` when acknowledged commits are damaged.
    contents: Option<Contents>,
}

#[derive(Serialize)]
struct Contents {
    namespaces: BTreeMap<String, Usage>,
    logs: Vec<LogSummary>,
    snapshots: Vec<SnapshotSummary>,
}

#[derive(Default, Serialize)]
struct Usage {
    keys: u64,
    /// Of keys and values.
    bytes: u64,
}

#[derive(Serialize)]
struct LogSummary {
    name: String,
    first_lsn: u64,
    next_lsn: u64,
    records: u64,
    pages: u64,
    damage: Option<String>,
}

#[derive(Serialize)]
struct SnapshotSummary {
    name: String,
    id: u64,
    position: u64,
    schema_version: u32,
    bytes: u64,
    /// Unix milliseconds.
    created_at: u64,
    damage: Option<String>,
}

impl Inspection {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        let whole = self.contents.as_ref().is_some_and(|contents| {
            contents.logs.iter().all(|log| log.damage.is_none())
                && contents.snapshots.iter().all(|snapshot| snapshot.damage.is_none())
        });
        if whole { super::verdict(&self.files) } else { super::DAMAGED }
    }
}

pub(crate) async fn of(loaded: Loaded) -> Result<Inspection, String> {
    let contents = match &loaded.store {
        Some(store) => Some(Contents {
            namespaces: namespaces(store).await.map_err(|e| e.to_string())?,
            logs: logs(store).await.map_err(|e| e.to_string())?,
            snapshots: snapshots(store).await.map_err(|e| e.to_string())?,
        }),
        None => None,
    };
    Ok(Inspection { files: loaded.report, contents })
}

async fn namespaces(store: &Store) -> resurge_store::Result<BTreeMap<String, Usage>> {
    let mut found = BTreeMap::<String, Usage>::new();
    let mut range = Some(KeyRange::everything());
    while let Some(rest) = range {
        let page = store.scan(rest, ScanOptions::new()).await?;
        for entry in page.entries {
            let usage = found.entry(entry.key.namespace().name().to_owned()).or_default();
            usage.keys += 1;
            usage.bytes += (entry.key.bytes().len() + entry.value.len()) as u64;
        }
        range = page.next;
    }
    Ok(found)
}

async fn logs(store: &Store) -> resurge_wal::Result<Vec<LogSummary>> {
    use resurge_wal::inspect;
    let mut found = Vec::<LogSummary>::new();
    loop {
        let after = found.last().map(|log| log.name.clone());
        let names = inspect::names(store, after.as_deref(), NAMES).await?;
        if names.is_empty() {
            return Ok(found);
        }
        for name in names {
            let report = inspect::Inspector::new(store, &name)?.verify().await?;
            found.push(LogSummary {
                name,
                first_lsn: report.first_lsn.0,
                next_lsn: report.next_lsn.0,
                records: report.records,
                pages: report.pages,
                damage: report.damage.map(|damage| damage.to_string()),
            });
        }
    }
}

async fn snapshots(store: &Store) -> resurge_snapshot::Result<Vec<SnapshotSummary>> {
    use resurge_snapshot::inspect;
    let mut found = Vec::new();
    let mut after = None::<String>;
    loop {
        let names = inspect::names(store, after.as_deref(), NAMES).await?;
        if names.is_empty() {
            return Ok(found);
        }
        for name in &names {
            let listing = inspect::list(store, name).await?;
            found.extend(listing.snapshots.into_iter().map(|info| SnapshotSummary {
                name: name.clone(),
                id: info.id.0,
                position: info.position,
                schema_version: info.schema_version,
                bytes: info.bytes,
                created_at: info.created_at.as_millis(),
                damage: None,
            }));
            found.extend(listing.damaged.into_iter().map(|damaged| SnapshotSummary {
                name: name.clone(),
                id: damaged.id.0,
                position: 0,
                schema_version: 0,
                bytes: 0,
                created_at: 0,
                damage: Some(damaged.what),
            }));
        }
        after = names.into_iter().last();
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = &self.files;
        writeln!(f, "{files}")?;
        let id = files.store_id.as_deref().unwrap_or("unknown");
        let closed = match files.clean {
            Some(true) => "closed in good order",
            Some(false) => "not closed in good order",
            None => "unreadable",
        };
        writeln!(f, "super file: store {id}, {closed}, durable up to {}", files.high_water)?;
        for segment in &files.segments {
            let (first, last) = (segment.first_seq, segment.last_seq);
            let (used, len) = (segment.used_bytes, segment.file_bytes);
            writeln!(
                f,
                "segment {}: commits {first} to {last}, {used} of {len} bytes",
                segment.file
            )?;
        }
        for image in &files.images {
            let (begin, end, keys, bytes) = (image.begin, image.end, image.entries, image.bytes);
            writeln!(f, "image {begin}: up to {end}, {keys} keys, {bytes} bytes")?;
        }
        match &self.contents {
            Some(contents) => contents.fmt(f),
            None => f.write_str("contents: not shown, acknowledged commits are damaged"),
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "contents: {} namespaces", self.namespaces.len())?;
        for (name, usage) in &self.namespaces {
            write!(f, "\nnamespace {name}: {} keys, {} bytes", usage.keys, usage.bytes)?;
        }
        for log in &self.logs {
            let LogSummary { name, first_lsn, next_lsn, records, pages, damage } = log;
            write!(f, "\nlog {name}: {records} records in {pages} pages, ")?;
            write!(f, "from {first_lsn}, the next is {next_lsn}")?;
            if let Some(damage) = damage {
                write!(f, "; DAMAGED: {damage}")?;
            }
        }
        for snapshot in &self.snapshots {
            let SnapshotSummary { name, id, position, bytes, .. } = snapshot;
            write!(f, "\nsnapshot {name} {id}: ")?;
            match &snapshot.damage {
                Some(damage) => write!(f, "DAMAGED: {damage}")?,
                None => write!(f, "position {position}, {bytes} bytes")?,
            }
        }
        Ok(())
    }
}
