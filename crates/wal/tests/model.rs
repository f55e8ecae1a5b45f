//! Random sequences of everything a log can do, compared with a plain list.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use proptest::prelude::*;
use resurge_store::{Batch, Durability, ErrorKind, Guard, Namespace, Store};
use resurge_testkit::{Call, Fault, FaultStore};
use resurge_wal::{Claim, Lsn, Wal, WalError, WalOptions};
use support::{all, faulty, options};

#[derive(Clone, Debug)]
enum Do {
    /// Appends, awaited together.
    Append(Vec<usize>),
    AppendAll(Vec<usize>),
    /// Staged and committed, with an append behind it.
    Stage(Vec<usize>, bool),
    /// Written and dropped, with an append behind it or not.
    DropStage(Vec<usize>, bool),
    /// Staged in a batch that conflicts.
    RefusedStage(usize),
    /// The next commit fails.
    Fail(bool, usize),
    Truncate(u64),
    Reopen(bool),
}

fn step() -> impl Strategy<Value = Do> {
    let sizes = || prop::collection::vec(0..300_usize, 1..6);
    prop_oneof![
        4 => sizes().prop_map(Do::Append),
        2 => sizes().prop_map(Do::AppendAll),
        2 => (sizes(), any::<bool>()).prop_map(|(s, b)| Do::Stage(s, b)),
        1 => (sizes(), any::<bool>()).prop_map(|(s, b)| Do::DropStage(s, b)),
        1 => (0..300_usize).prop_map(Do::RefusedStage),
        1 => (any::<bool>(), 0..300_usize).prop_map(|(u, s)| Do::Fail(u, s)),
        1 => (0..60_u64).prop_map(Do::Truncate),
        1 => any::<bool>().prop_map(Do::Reopen),
    ]
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    records: Vec<(u64, String)>,
    first: u64,
    next: u64,
    made: usize,
}

impl Model {
    fn make(&mut self, size: usize) -> String {
        self.made += 1;
        format!("{} {}", self.made, "x".repeat(size))
    }

    fn took(&mut self, lsn: u64, record: String) {
        assert_eq!(lsn, self.next);
        self.next += 1;
        self.records.push((lsn, record));
    }
}

async fn run(steps: Vec<Do>) {
    let (store, faults, clock) = faulty();
    let time = tokio::spawn(async move {
        loop {
            clock.advance(std::time::Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    });
    let mut wal = Wal::<String>::open(&store, "log", options()).await.unwrap().0;
    let mut model = Model { first: 1, next: 1, ..Model::default() };
    for step in steps {
        take(step, &store, &faults, &mut wal, &mut model).await;
        assert_eq!(wal.next_lsn(), Lsn(model.next));
        assert_eq!(wal.first_lsn(), Lsn(model.first));
        assert_eq!(all(&wal).await, model.records);
        assert!(wal.verify().await.unwrap().is_intact());
    }
    time.abort();
}

async fn take(
    step: Do,
    store: &Store,
    faults: &FaultStore,
    wal: &mut Wal<String>,
    model: &mut Model,
) {
    match step {
        Do::Append(sizes) => {
            let made: Vec<_> = sizes.into_iter().map(|size| model.make(size)).collect();
            let appends: Vec<_> = made.iter().map(|record| wal.append(record)).collect();
            for (append, record) in appends.into_iter().zip(made) {
                model.took(append.await.unwrap().0, record);
            }
        }
        Do::AppendAll(sizes) => {
            let made: Vec<_> = sizes.into_iter().map(|size| model.make(size)).collect();
            let lsns = wal.append_all(&made).await.unwrap();
            assert_eq!(lsns.end.0 - lsns.start.0, made.len() as u64);
            for (lsn, record) in (lsns.start.0..).zip(made) {
                model.took(lsn, record);
            }
        }
        Do::Stage(sizes, behind) => {
            let mut stage = wal.stage().await.unwrap();
            let made: Vec<_> = sizes.into_iter().map(|size| model.make(size)).collect();
            for record in &made {
                stage.push(record).unwrap();
            }
            let mut batch = Batch::new();
            let staged = stage.write(&mut batch).unwrap();
            let (lsns, record) = (staged.lsns(), model.make(3));
            let behind = behind.then(|| wal.append(&record));
            let commit = store.commit(batch, Durability::Durable);
            staged.submitted(commit, Durability::Durable).await.unwrap();
            for (lsn, record) in (lsns.start.0..).zip(made) {
                model.took(lsn, record);
            }
            if let Some(behind) = behind {
                model.took(behind.await.unwrap().0, record);
            }
        }
        Do::DropStage(sizes, behind) => {
            let mut stage = wal.stage().await.unwrap();
            let made: Vec<_> = sizes.into_iter().map(|size| model.make(size)).collect();
            for record in &made {
                stage.push(record).unwrap();
            }
            let staged = stage.write(&mut Batch::new()).unwrap();
            let record = model.make(3);
            let behind = behind.then(|| wal.append(&record));
            let end = staged.lsns().end.0;
            drop(staged);
            if let Some(behind) = behind {
                model.next = end;
                model.took(behind.await.unwrap().0, record);
            }
        }
        Do::RefusedStage(size) => {
            let mut stage = wal.stage().await.unwrap();
            stage.push(&model.make(size)).unwrap();
            let mut batch = Batch::new();
            batch.guard(Namespace::new("app").unwrap().key("none").unwrap(), Guard::Present);
            let commit = stage.commit(batch, Durability::Durable).unwrap();
            let behind = wal.append(&model.make(size));
            assert_eq!(commit.await.unwrap_err().kind(), ErrorKind::Conflict);
            assert!(matches!(behind.await, Err(WalError::Predecessor(_))));
        }
        Do::Fail(unavailable, size) => {
            let kind = if unavailable { ErrorKind::Unavailable } else { ErrorKind::Full };
            faults.fail(Call::Commit, 1, Fault::before(kind));
            let made: Vec<_> = (0..4).map(|_| model.make(size)).collect();
            let appends: Vec<_> = made.iter().map(|record| wal.append(record)).collect();
            for (append, record) in appends.into_iter().zip(made) {
                match append.await {
                    Ok(lsn) if unavailable => model.took(lsn.0, record),
                    Err(_) if !unavailable => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        Do::Truncate(lsn) => {
            wal.truncate_before(Lsn(lsn)).await.unwrap();
            let end = model.records.last().map_or(model.first, |(lsn, _)| lsn + 1);
            model.first = model.first.max(lsn.min(end));
            model.records.retain(|(lsn, _)| *lsn >= model.first);
        }
        Do::Reopen(lazy) => {
            let claim = if lazy { Claim::AtFirstWrite } else { Claim::AtOpen };
            let options = WalOptions { claim, ..options() };
            let (again, report) = Wal::open(store, "log", options).await.unwrap();
            assert_eq!((report.first_lsn, report.next_lsn), (Lsn(model.first), Lsn(model.next)));
            *wal = again;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_log_behaves_like_a_list(steps in prop::collection::vec(step(), 1..25)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(steps));
    }
}
