//! Loading: the newest snapshot that is whole.

use std::error::Error;
use std::fmt;
use std::io::Read;

use bytes::Bytes;
use resurge_store::{Codec, ErrorKind, Record, ScanOptions};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use twox_hash::XxHash3_128;

use crate::chunks::{self, ChunkReader};
use crate::snapshots::Inner;
use crate::{Damaged, Result, SnapshotError, SnapshotId, SnapshotInfo, Snapshots};

/// A snapshot that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<S> {
    /// Which.
    pub info: SnapshotInfo,
    /// What it holds.
    pub state: S,
}

/// What [`Snapshots::load_latest`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest<S> {
    /// The newest whole snapshot; `None` when there is none.
    pub loaded: Option<Loaded<S>>,
    /// Newer ones that are damaged, and all whose manifest is. Empty when all is well.
    pub skipped: Vec<Damaged>,
}

/// The bytes of a state with an older schema version.
pub struct OldState {
    codec: Codec,
    reader: ChunkReader,
}

impl OldState {
    /// Decodes it as the type it was.
    ///
    /// # Errors
    /// `Corrupt` when it is no such value.
    pub fn decode<T: DeserializeOwned>(self) -> resurge_store::Result<T> {
        self.codec.read_from(self.reader)
    }

    /// All of it as it was serialised.
    ///
    /// # Errors
    /// When reading it was given up.
    pub fn into_bytes(mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for OldState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldState").field("codec", &self.codec).finish_non_exhaustive()
    }
}

/// What reading one snapshot came to.
enum Outcome<T> {
    Whole(T),
    Damaged(String),
    /// Removed by somebody else while it was read.
    Gone,
}

impl<S> Snapshots<S> {
    /// Reads a snapshot and checks it without decoding the state.
    ///
    /// # Errors
    /// `Damaged`, `NotFound`; those of the store.
    pub async fn verify(&self, id: SnapshotId) -> Result<()> {
        let info = self.inner.info(id).await?;
        self.inner.verify(&info).await
    }
}

impl<S: DeserializeOwned + Send + 'static> Snapshots<S> {
    /// Loads the newest snapshot that is whole. Damaged ones are skipped and reported.
    ///
    /// # Errors
    /// `NewerSchema`, `Migration` and `Decode` when the newest whole one cannot be understood by this
    /// build: using an older one instead would hide that. `Invalid` when it is larger than
    /// [`max_bytes`](crate::SnapshotOptions::max_bytes). Those of the store.
    pub async fn load_latest(&self) -> Result<Latest<S>> {
        'listing: loop {
            let listing = self.inner.list().await?;
            let mut skipped = listing.damaged;
            for damaged in &skipped {
                self.inner.report(damaged);
            }
            for info in listing.snapshots {
                match self.inner.read(&info).await? {
                    Outcome::Whole(state) => {
                        let loaded = Some(Loaded { info, state });
                        return Ok(Latest { loaded, skipped });
                    }
                    Outcome::Damaged(what) => skipped.push(Damaged { id: info.id, what }),
                    Outcome::Gone => continue 'listing,
                }
            }
            return Ok(Latest { loaded: None, skipped });
        }
    }

    /// Loads one snapshot.
    ///
    /// # Errors
    /// `NotFound`; `Damaged`; otherwise as [`load_latest`](Self::load_latest).
    pub async fn load(&self, id: SnapshotId) -> Result<Loaded<S>> {
        let info = self.inner.info(id).await?;
        match self.inner.read(&info).await? {
            Outcome::Whole(state) => Ok(Loaded { info, state }),
            Outcome::Damaged(what) => Err(SnapshotError::Damaged { id, what }),
            Outcome::Gone => Err(SnapshotError::NotFound { id }),
        }
    }
}

impl<S> Inner<S> {
    async fn info(&self, id: SnapshotId) -> Result<SnapshotInfo> {
        let key = self.layout.manifest(id)?;
        let stored = self.store.get(&key).await?.ok_or(SnapshotError::NotFound { id })?;
        Record::decode(&key, &stored)
            .map_err(|e| e.to_string())
            .and_then(|record| SnapshotInfo::decode(id, record.into_payload()))
            .map_err(|what| SnapshotError::Damaged { id, what })
    }

    pub(crate) async fn verify(&self, info: &SnapshotInfo) -> Result<()> {
        let id = info.id;
        match self.checked(info, None).await? {
            Outcome::Whole(()) => Ok(()),
            Outcome::Damaged(what) => Err(SnapshotError::Damaged { id, what }),
            Outcome::Gone => Err(SnapshotError::NotFound { id }),
        }
    }

    fn report(&self, damaged: &Damaged) {
        if self.damaged.lock().insert(damaged.id) {
            self.metrics.damaged.increment(1);
        }
        let Damaged { id, what } = damaged;
        tracing::warn!(name = %self.name, %id, %what, "snapshot is damaged");
    }

    /// Reads every chunk, passes it on, and says whether all is as the manifest says.
    async fn checked(
        &self,
        info: &SnapshotInfo,
        to: Option<mpsc::Sender<Bytes>>,
    ) -> Result<Outcome<()>> {
        let id = info.id;
        let Err(what) = self.check(info, to).await? else { return Ok(Outcome::Whole(())) };
        if !self.exists(id).await? {
            return Ok(Outcome::Gone);
        }
        self.report(&Damaged { id, what: what.clone() });
        Ok(Outcome::Damaged(what))
    }

    async fn check(
        &self,
        info: &SnapshotInfo,
        mut to: Option<mpsc::Sender<Bytes>>,
    ) -> Result<Result<(), String>> {
        let mut index: u32 = 0;
        let mut bytes: u64 = 0;
        let mut hash = XxHash3_128::new();
        let mut range = Some(self.layout.chunks(info.id));
        while let Some(rest) = range {
            let page = match self.store.scan(rest, ScanOptions::new()).await {
                Ok(page) => page,
                Err(e) if e.kind() == ErrorKind::Corrupt => return Ok(Err(e.to_string())),
                Err(e) => return Err(e.into()),
            };
            for entry in page.entries {
                match self.layout.parse(&entry.key) {
                    Some((_, Some(found))) if found == index && index < info.chunks => {}
                    _ if index < info.chunks => {
                        return Ok(Err(format!("chunk {index} is missing")));
                    }
                    _ => return Ok(Err(format!("there are more than {} chunks", info.chunks))),
                }
                let chunk = match Record::decode(&entry.key, &entry.value) {
                    Ok(record) => record.into_payload(),
                    Err(e) => return Ok(Err(format!("chunk {index}: {e}"))),
                };
                bytes += chunk.len() as u64;
                if bytes > info.bytes {
                    return Ok(Err(format!("it is longer than {} bytes", info.bytes)));
                }
                hash.write(&chunk);
                if let Some(open) = &to
                    && open.send(chunk).await.is_err()
                {
                    // The decoder gave up; whether the bytes are right still decides.
                    to = None;
                }
                index += 1;
            }
            range = page.next;
        }
        Ok(match hash.finish_128() {
            _ if index < info.chunks => Err(format!("chunk {index} is missing")),
            _ if bytes < info.bytes => Err(format!("it has {bytes} of {} bytes", info.bytes)),
            digest if digest != info.digest => Err("the digest of the whole is wrong".to_owned()),
            _ => Ok(()),
        })
    }
}

impl<S: DeserializeOwned + Send + 'static> Inner<S> {
    async fn read(&self, info: &SnapshotInfo) -> Result<Outcome<S>> {
        let started = self.store.clock().monotonic();
        let (id, from) = (info.id, info.schema_version);
        let supported = self.options.schema_version;
        if from > supported {
            return Err(SnapshotError::NewerSchema { id, found: from, supported });
        }
        let migrate = match &self.options.migrate {
            _ if from == supported => None,
            Some(migrate) => Some(std::sync::Arc::clone(migrate)),
            None => {
                let what = "no migration is set".to_owned();
                return Err(SnapshotError::Migration { id, from, what });
            }
        };
        if info.bytes > self.options.max_bytes {
            let (bytes, max) = (info.bytes, self.options.max_bytes);
            return Err(SnapshotError::Invalid(format!(
                "snapshot {id} has {bytes} bytes; max_bytes is {max}"
            )));
        }
        let (to, chunks) = chunks::channel();
        let codec = info.codec;
        let decoding = tokio::task::spawn_blocking(move || {
            let reader = ChunkReader::new(chunks);
            match migrate {
                None => codec.read_from(reader).map_err(|e| {
                    let what = e.to_string();
                    SnapshotError::Decode { id, what }
                }),
                Some(migrate) => migrate(from, OldState { codec, reader }).map_err(
                    |e: Box<dyn Error + Send + Sync>| {
                        let what = e.to_string();
                        SnapshotError::Migration { id, from, what }
                    },
                ),
            }
        });
        let checked = self.checked(info, Some(to)).await;
        let state = decoding
            .await
            .unwrap_or_else(|e| Err(SnapshotError::Decode { id, what: e.to_string() }));
        let state = match checked? {
            // ORDER: what a decoder made of damaged bytes is never looked at.
            Outcome::Whole(()) => state?,
            Outcome::Damaged(what) => return Ok(Outcome::Damaged(what)),
            Outcome::Gone => return Ok(Outcome::Gone),
        };
        let took = self.store.clock().monotonic().saturating_since(started);
        self.metrics.load_seconds.record(took);
        tracing::info!(
            name = %self.name, %id, position = info.position, items = info.items,
            duration = ?took, "snapshot loaded"
        );
        Ok(Outcome::Whole(state))
    }
}
