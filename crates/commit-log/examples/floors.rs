//! Durable appends of 256 bytes beside the floors of the same disk, all on prepared space:
//!
//! * (a) `pwrite` + `fdatasync` of one record, one thread;
//! * (b) the same with N records at once, nobody to wake;
//! * (c) one committer thread, N tasks with one record each, a tokio oneshot per record.
//!
//! `cargo run --release -p resurge-commit-log --example floors [directory] [seconds]`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that measures"
)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use resurge_commit_log::{CommitLog, LogOptions};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const RECORD: [u8; 256] = [7; 256];
const ROUNDS: usize = 3;
const PREPARED: u64 = 256 << 20;

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "target".to_owned());
    let time = Duration::from_secs_f64(args.next().map_or(1.0, |s| s.parse().unwrap()));
    let dir = tempfile::Builder::new().prefix("floors").tempdir_in(dir).unwrap();
    let file = Arc::new(prepared(&dir.path().join("floor")));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();

    println!("in flight       (a)         (b)         (c)  commit-log   of (a)   of (c)");
    for n in [1_usize, 8, 64, 512] {
        let mut rows = Vec::new();
        for round in 0..ROUNDS {
            let a = raw(&file, 1, time);
            let b = raw(&file, n, time);
            let c = oneshots(&runtime, &file, n, time);
            let log = product(&runtime, &dir.path().join(format!("log-{n}-{round}")), n, time);
            rows.push([a, b, c, log]);
        }
        let [a, b, c, log] = std::array::from_fn(|i| median(rows.iter().map(|r| r[i]).collect()));
        println!("{n:9} {a:9.0} {b:11.0} {c:11.0} {log:11.0} {:8.2} {:8.2}", log / a, log / c);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn prepared(path: &Path) -> File {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for at in (0..PREPARED).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).unwrap();
    }
    file.sync_all().unwrap();
    file
}

fn raw(file: &File, n: usize, time: Duration) -> f64 {
    let bytes = RECORD.repeat(n);
    let (mut at, mut done) = (0, 0_usize);
    let start = Instant::now();
    while start.elapsed() < time {
        file.write_all_at(&bytes, at).unwrap();
        file.sync_data().unwrap();
        at = (at + bytes.len() as u64) % (PREPARED - (1 << 20));
        done += n;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
    stop: bool,
}

fn oneshots(runtime: &Runtime, file: &Arc<File>, n: usize, time: Duration) -> f64 {
    let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
    let committer = {
        let (shared, file) = (Arc::clone(&shared), Arc::clone(file));
        std::thread::spawn(move || {
            let mut at = 0;
            let mut taken = Queue::default();
            loop {
                let mut queue = shared.0.lock().unwrap();
                while queue.waiting.is_empty() {
                    if queue.stop {
                        return;
                    }
                    queue = shared.1.wait(queue).unwrap();
                }
                std::mem::swap(&mut queue.bytes, &mut taken.bytes);
                std::mem::swap(&mut queue.waiting, &mut taken.waiting);
                drop(queue);
                file.write_all_at(&taken.bytes, at).unwrap();
                file.sync_data().unwrap();
                at = (at + taken.bytes.len() as u64) % (PREPARED - (1 << 20));
                taken.bytes.clear();
                for tx in taken.waiting.drain(..) {
                    let _ = tx.send(());
                }
            }
        })
    };
    let rate = tasks(runtime, n, time, || {
        let shared = Arc::clone(&shared);
        move || {
            let (tx, rx) = oneshot::channel();
            let mut queue = shared.0.lock().unwrap();
            queue.bytes.extend_from_slice(&RECORD);
            queue.waiting.push(tx);
            let first = queue.waiting.len() == 1;
            drop(queue);
            if first {
                shared.1.notify_one();
            }
            async move { rx.await.unwrap() }
        }
    });
    shared.0.lock().unwrap().stop = true;
    shared.1.notify_one();
    committer.join().unwrap();
    rate
}

fn product(runtime: &Runtime, dir: &Path, n: usize, time: Duration) -> f64 {
    let (log, _) = CommitLog::open(dir, LogOptions::new(*b"measured, 256 B.")).unwrap();
    let rate = tasks(runtime, n, time, || {
        let log = log.clone();
        move || {
            let append = log.append(RECORD);
            async move {
                append.await.unwrap();
            }
        }
    });
    runtime.block_on(log.close()).unwrap();
    drop(log);
    std::fs::remove_dir_all(dir).unwrap();
    rate
}

/// `n` tasks, each with one record in flight at any time.
fn tasks<F, A>(runtime: &Runtime, n: usize, time: Duration, make: impl Fn() -> F) -> f64
where
    F: Fn() -> A + Send + 'static,
    A: Future<Output = ()> + Send,
{
    let start = Instant::now();
    let tasks = (0..n).map(|_| {
        let append = make();
        runtime.spawn(async move {
            let mut done = 0_usize;
            while start.elapsed() < time {
                append().await;
                done += 1;
            }
            done
        })
    });
    let tasks = tasks.collect::<Vec<_>>();
    let done = runtime.block_on(async {
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    });
    done as f64 / start.elapsed().as_secs_f64()
}
