//! The floors: what the same disk gives without any product, on the same prepared space.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::drive::{Rate, Stopwatch, in_flight};

/// The record size of every durable-append figure.
pub(crate) const RECORD: usize = 256;
const SPACE: u64 = 64 << 20;

/// A zero-filled, synced file that is overwritten from the start when its end is reached.
#[derive(Debug)]
struct Prepared {
    file: File,
    at: u64,
}

impl Prepared {
    fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join("floor");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for mib in 0..SPACE >> 20 {
            file.write_all_at(&zeros, mib << 20)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at + bytes.len() as u64 > SPACE {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.file.sync_data()
    }
}

/// (a) and (b): one thread, `n` records per `pwrite` + `fdatasync`, nobody to wake.
pub(crate) fn raw(dir: &Path, n: usize, time: Duration) -> io::Result<Rate> {
    let mut prepared = Prepared::create(dir)?;
    let record = [0xA5; RECORD];
    let mut group = Vec::with_capacity(n * RECORD);
    let watch = Stopwatch::start();
    let mut records = 0;
    while watch.elapsed() < time {
        group.clear();
        for _ in 0..n {
            group.extend_from_slice(&record);
        }
        prepared.append(&group)?;
        records += n as u64;
    }
    Ok(watch.rate(records))
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    waiters: Vec<oneshot::Sender<()>>,
}

/// (c): `n` tokio tasks, one committer thread, a oneshot per record.
pub(crate) fn attainable(dir: &Path, n: usize, time: Duration) -> io::Result<Rate> {
    let mut prepared = Prepared::create(dir)?;
    let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let committer = thread::spawn({
        let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
        move || -> io::Result<()> {
            let mut taken = Queue::default();
            loop {
                {
                    let mut queue = shared.0.lock();
                    while queue.waiters.is_empty() {
                        if stop.load(Ordering::Acquire) {
                            return Ok(());
                        }
                        shared.1.wait(&mut queue);
                    }
                    std::mem::swap(&mut *queue, &mut taken);
                }
                prepared.append(&taken.bytes)?;
                taken.bytes.clear();
                for waiter in taken.waiters.drain(..) {
                    let _gone = waiter.send(());
                }
            }
        }
    });
    let record = [0xA5; RECORD];
    let rate = in_flight(n, time, {
        let shared = Arc::clone(&shared);
        move |_| {
            let shared = Arc::clone(&shared);
            async move {
                let (sender, done) = oneshot::channel();
                {
                    let mut queue = shared.0.lock();
                    queue.bytes.extend_from_slice(&record);
                    queue.waiters.push(sender);
                }
                shared.1.notify_one();
                done.await.map_err(|_| io::Error::other("the committer stopped"))
            }
        }
    })?;
    stop.store(true, Ordering::Release);
    {
        let _queue = shared.0.lock();
        shared.1.notify_one();
    }
    committer.join().map_err(|_| io::Error::other("the committer panicked"))??;
    Ok(rate)
}
