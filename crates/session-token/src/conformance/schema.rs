//! Formats, versions of the state, sealing, and damage.

use std::sync::Arc;

use resurge_store::{Batch, Durability, Key, Namespace, Record};
use serde::{Deserialize, Serialize};

use super::{CaseFailure, CaseResult, World};
use crate::{Format, ReusePolicy, Serializer, SessionBuilder, SessionError, StateValue, TokenKind};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Second {
    count: u32,
    note: String,
}

fn second(world: &World) -> SessionBuilder {
    world.builder().schema(2).reuse(ReusePolicy::UntilExpiry)
}

fn to_second(value: StateValue) -> Result<StateValue, String> {
    let mut fields = value.into_map().map_err(|_| "not a map")?;
    fields.push(("note".into(), "migrated".into()));
    Ok(StateValue::Map(fields))
}

pub(super) async fn migration(world: World) -> CaseResult {
    #[derive(Serialize)]
    struct First {
        count: u32,
    }
    let first = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let token = first.create("alice").await?;
    first.save(&token, &First { count: 7 }).await?;
    let without = second(&world).build()?;
    let refused = without.recover::<Second>(&token.expose().into()).await;
    ensure_err!(refused, SessionError::SchemaMismatch { found: 1, want: 2 });
    let failing = second(&world).migrate(1, |_| Err("no".to_owned())).build()?;
    let refused = failing.recover::<Second>(&token.expose().into()).await;
    ensure_err!(refused, SessionError::SchemaMismatch { found: 1, want: 2 });

    let with = second(&world).migrate(1, to_second).build()?;
    let back = with.recover::<Second>(&token.expose().into()).await?;
    let migrated = Second { count: 7, note: "migrated".to_owned() };
    ensure!(back.state == migrated, "{:?}", back.state);
    with.save(&back.token, &migrated).await?;
    // The older program does not read the newer state, and leaves it.
    let refused = first.recover::<StateValue>(&token.expose().into()).await;
    ensure_err!(refused, SessionError::SchemaMismatch { found: 2, want: 1 });
    with.recover::<Second>(&token.expose().into()).await?;
    Ok(())
}

#[derive(Debug)]
struct Backwards;

impl Serializer for Backwards {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &StateValue) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(|e| e.to_string())?;
        bytes.reverse();
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8]) -> Result<StateValue, String> {
        let bytes: Vec<u8> = bytes.iter().rev().copied().collect();
        ciborium::from_reader(bytes.as_slice()).map_err(|e| e.to_string())
    }
}

type Nested = (i64, u64, f64, Option<Vec<String>>, std::collections::BTreeMap<String, bool>);

pub(super) async fn formats(world: World) -> CaseResult {
    let formats = [
        Format::Cbor,
        Format::Json,
        #[cfg(feature = "messagepack")]
        Format::MessagePack,
        Format::Custom(Arc::new(Backwards)),
    ];
    let state: Nested = (
        -3,
        (1 << 53) + 1,
        0.5,
        Some(vec!["caf\u{e9}".to_owned()]),
        [("yes".to_owned(), true)].into(),
    );
    for kind in [TokenKind::Reference, TokenKind::SealedState] {
        for format in &formats {
            let write = world.builder().token_kind(kind).format(format.clone()).build()?;
            let token = write.create("alice").await?;
            let token = write.save(&token, &state).await?.token;
            for other in &formats {
                let read = world.builder().token_kind(kind).format(other.clone());
                let read = read.also_reads(Backwards).build()?;
                let back = read.peek::<Nested>(&token).await?;
                ensure!(back.state == state, "{format:?} read by {other:?}: {:?}", back.state);
            }
            let back = write.recover::<Nested>(&token).await?;
            ensure!(back.state == state, "{format:?}: {:?}", back.state);
        }
    }
    let own = world.builder().format(Format::Custom(Arc::new(Backwards))).build()?;
    let token = own.create("alice").await?;
    own.save(&token, &1_u8).await?;
    ensure_err!(world.builder().build()?.peek::<u8>(&token).await, SessionError::Corrupt(_));
    Ok(())
}

pub(super) async fn record(
    world: &World,
    name: &str,
    nth: usize,
) -> Result<(Key, Vec<u8>), CaseFailure> {
    let range = Namespace::new(&format!("session/{name}"))?.prefix("r");
    let page = world.backend.scan(range, resurge_store::ScanOptions::new()).await?;
    let entry = page.entries.into_iter().nth(nth);
    let entry = entry.ok_or_else(|| CaseFailure::new("no record"))?;
    let payload = Record::decode(&entry.key, &entry.value)?.into_payload();
    Ok((entry.key, payload.to_vec()))
}

pub(super) async fn put(world: &World, key: Key, payload: Vec<u8>) -> CaseResult {
    let mut batch = Batch::new();
    batch.put(key.clone(), Record::new(payload).encode(&key));
    world.backend.commit(batch, Durability::Durable).await?;
    Ok(())
}

pub(super) async fn damage(world: World) -> CaseResult {
    for (name, seal) in [("plain", false), ("sealed", true)] {
        let sessions = world.builder().name(name).seal_states(seal).build()?;
        let mut tokens = Vec::new();
        for subject in ["alice", "bob"] {
            let token = sessions.create(subject).await?;
            tokens.push(sessions.save(&token, &subject).await?.token);
        }
        let (key, intact) = record(&world, name, 0).await?;
        let mut damaged = intact.clone();
        if let Some(last) = damaged.last_mut() {
            *last ^= 0xff;
        }
        if seal {
            put(&world, key.clone(), damaged).await?;
            let mut corrupt = 0;
            for token in &tokens {
                corrupt += u8::from(matches!(
                    sessions.peek::<String>(token).await,
                    Err(SessionError::Corrupt(_))
                ));
            }
            ensure!(corrupt == 1, "{corrupt} corrupt");
            // One session's record in place of the other's.
            let (_, other) = record(&world, name, 1).await?;
            put(&world, key.clone(), other).await?;
            let mut crossed = 0;
            for token in &tokens {
                crossed += u8::from(matches!(
                    sessions.peek::<String>(token).await,
                    Err(SessionError::Corrupt(_))
                ));
            }
            ensure!(crossed == 1, "{crossed} refused");
        }
        let mut batch = Batch::new();
        batch.put(key.clone(), "no record at all");
        world.backend.commit(batch, Durability::Durable).await?;
        let mut corrupt = 0;
        for token in &tokens {
            match sessions.recover::<String>(token).await {
                Ok(back) => ensure!(back.subject == back.state, "crossed"),
                Err(SessionError::Corrupt(_)) => corrupt += 1,
                Err(e) => ensure!(false, "{e:?}"),
            }
        }
        ensure!(corrupt == 1, "{corrupt} corrupt");
        put(&world, key, intact).await?;
    }
    Ok(())
}

/// What should be sealed and is not is refused.
pub(super) async fn downgrade(world: World) -> CaseResult {
    let plain = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let token = plain.create("alice").await?;
    plain.save(&token, &7_u8).await?;
    let sealed = world.builder().reuse(ReusePolicy::UntilExpiry).seal_states(true).build()?;
    ensure_err!(sealed.recover::<u8>(&token).await, SessionError::Corrupt(_));
    let token = sealed.create("alice").await?;
    sealed.save(&token, &7_u8).await?;
    ensure!(sealed.recover::<u8>(&token).await?.state == 7, "another state");
    // Rotation of the key: what is sealed stays readable, and is sealed anew by the next save.
    world.ring.add(2, &super::key(2)).await?;
    world.ring.promote(2).await?;
    let token = sealed.recover::<u8>(&token).await?.token;
    sealed.save(&token, &8_u8).await?;
    ensure!(sealed.recover::<u8>(&token).await?.state == 8, "another state");
    Ok(())
}

/// Nothing is consumed before the state was read.
pub(super) async fn wrong_type(world: World) -> CaseResult {
    let sessions = world.builder().reuse(ReusePolicy::SingleUse).build()?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &"text").await?;
    ensure_err!(sessions.recover::<u64>(&token).await, SessionError::Corrupt(_));
    ensure!(sessions.recover::<String>(&token).await?.state == "text", "another state");
    Ok(())
}
