//! One damaged record keeps nobody else down.

use resurge_flow::{Ctx, FlowError, FlowResult};
use resurge_store::{Batch, Durability, Namespace};

use crate::support::{flows, store};

async fn nothing(_: Ctx, n: u32) -> FlowResult<u32> {
    Ok(n)
}

#[tokio::test]
async fn a_damaged_record_of_a_run_is_counted_and_named_and_the_others_run() {
    let (store, _clock) = store();
    let before = flows(&store);
    let flow = before.register("nothing", nothing).unwrap();
    for run in ["a", "b", "c"] {
        flow.start(run, 7).await.unwrap();
    }
    before.shutdown().await;
    let key = Namespace::new("resurge/flow/live").unwrap().key("b").unwrap();
    let mut record = store.get(&key).await.unwrap().unwrap().to_vec();
    let middle = record.len() / 2;
    record[middle] ^= 1;
    let mut batch = Batch::new();
    batch.put(key.clone(), record.clone());
    store.commit(batch, Durability::Durable).await.unwrap();

    let after = flows(&store);
    let flow = after.register("nothing", nothing).unwrap();
    let report = after.start().await.unwrap();
    assert_eq!((report.unfinished, report.running, report.damaged), (3, 2, 1));
    for run in ["a", "c"] {
        assert_eq!(flow.run(run).result().await.unwrap(), 7);
    }
    let damaged = flow.run("b").state().await.unwrap_err();
    assert!(matches!(&damaged, FlowError::Store { run, .. } if run == "b"), "{damaged}");
    assert!(damaged.to_string().contains("checksum"), "{damaged}");
    assert_eq!(store.get(&key).await.unwrap().unwrap(), record, "left as it is");
    after.shutdown().await;
}
