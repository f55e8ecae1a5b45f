//! The record envelope on this backend: expiry by the injected clock, damage detected.

use std::time::Duration;

use bytes::Bytes;
use resurge_store::{Batch, Durability, ErrorKind, Guard, Record, Result, Store, VirtualClock};

use super::subject::{key, refused, some};
use super::{CaseFailure, Subject, Verdict};

async fn on_virtual_time(subject: &Subject) -> Result<(Store, VirtualClock), CaseFailure> {
    let clock = VirtualClock::new();
    Ok((Store::from_arc(subject.open().await?).with_clock(clock.clone()), clock))
}

async fn write(store: &Store, name: &str, record: Record, guard: Guard) -> Result<()> {
    let key = key(name)?;
    let mut batch = Batch::new();
    batch.guard(key.clone(), guard).put(key.clone(), record.encode(&key));
    store.commit(batch, Durability::Durable).await.map(|_| ())
}

pub(super) async fn an_expired_record_is_hidden(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let (store, clock) = on_virtual_time(subject).await?;
    let expires = store.now().saturating_add(Duration::from_secs(60));
    write(&store, "k", Record::new("v").expires_at(expires), Guard::Absent).await?;
    write(&store, "for-ever", Record::new("w"), Guard::Absent).await?;
    clock.advance(Duration::from_millis(59_999));
    ensure_eq!(store.read(&key("k")?).await?.into_payload(), some("v"), "before its expiry");
    clock.advance(Duration::from_millis(1));
    ensure_eq!(store.read(&key("k")?).await?.into_payload(), None, "at its expiry");
    ensure!(store.get(&key("k")?).await?.is_some(), "expiry must not delete by itself");
    clock.advance(Duration::from_secs(3_000_000_000));
    let lasting = store.read(&key("for-ever")?).await?.into_payload();
    ensure_eq!(lasting, some("w"), "a record without expiry");
    Ok(Verdict::Passed)
}

pub(super) async fn an_expired_record_can_be_replaced(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let (store, clock) = on_virtual_time(subject).await?;
    let expires = store.now().saturating_add(Duration::from_secs(1));
    write(&store, "k", Record::new("old").expires_at(expires), Guard::Absent).await?;
    clock.advance(Duration::from_secs(2));
    let hidden = store.read(&key("k")?).await?;
    ensure_eq!(hidden.payload(), None, "the expired record");
    // Absent would be wrong: physically it is there, and the guard says so.
    let naive = write(&store, "k", Record::new("new"), Guard::Absent).await;
    refused(naive, ErrorKind::Conflict, "Absent on an expired record")?;
    write(&store, "k", Record::new("new"), hidden.guard()).await?;
    ensure_eq!(store.read(&key("k")?).await?.into_payload(), some("new"), "its replacement");
    let late = write(&store, "k", Record::new("late"), hidden.guard()).await;
    refused(late, ErrorKind::Conflict, "the same guard again")?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_record_under_another_key_is_corrupt(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let (store, _) = on_virtual_time(subject).await?;
    let mut batch = Batch::new();
    batch.put(key("other")?, Record::new("v").encode(&key("k")?));
    store.commit(batch, Durability::Durable).await?;
    let read = store.read(&key("other")?).await;
    let error = refused(read, ErrorKind::Corrupt, "a record moved to another key")?;
    ensure_eq!(error.key(), Some(&key("other")?), "the key it names");
    Ok(Verdict::Passed)
}

pub(super) async fn a_flipped_bit_is_corrupt(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let (store, _) = on_virtual_time(subject).await?;
    let intact = Record::new("payload").expires_at(store.now()).encode(&key("k")?);
    for bit in 0..intact.len() * 8 {
        let mut flipped = intact.to_vec();
        if let Some(byte) = flipped.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let mut batch = Batch::new();
        batch.put(key("k")?, Bytes::from(flipped));
        store.commit(batch, Durability::Buffered).await?;
        refused(store.read(&key("k")?).await, ErrorKind::Corrupt, &format!("bit {bit} flipped"))?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn records_expire_by_the_injected_clock(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let (store, clock) = on_virtual_time(subject).await?;
    let start = store.now();
    let expires = start.saturating_add(Duration::from_secs(60));
    write(&store, "k", Record::new("v").expires_at(expires), Guard::Absent).await?;
    clock.set_wall(expires);
    ensure_eq!(store.read(&key("k")?).await?.payload(), None, "with the clock set forward");
    clock.set_wall(start);
    let back = store.read(&key("k")?).await?.into_payload();
    ensure_eq!(back, some("v"), "with the clock set back");
    Ok(Verdict::Passed)
}
