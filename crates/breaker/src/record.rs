//! The stored bytes of a circuit's state.

use bytes::Bytes;
use resurge_store::{Codec, ErrorKind, Key, Record, StoreError};

use crate::machine::BreakerRecord;

const VERSION: u8 = 1;
/// More changes than a breaker lives to see; one more can always be counted.
const MOST: u64 = u64::MAX / 2;

/// `[version u8][CBOR]`, inside the record envelope.
pub(crate) fn encode(record: &BreakerRecord) -> Vec<u8> {
    let mut out = vec![VERSION];
    // It is plain data of bounded size: encoding it cannot fail. If it did, the empty payload would
    // be found unreadable, not taken for another state.
    drop(Codec::Cbor.encode_into(record, &mut out));
    out
}

/// Reads what was stored under `key`.
pub(crate) fn decode(key: &Key, stored: &Bytes) -> Result<BreakerRecord, StoreError> {
    let record = Record::decode(key, stored)?;
    let bad = |text: String| StoreError::corrupt(key.clone(), format!("breaker: {text}"));
    match record.payload().split_first() {
        Some((&VERSION, body)) => {
            let record: BreakerRecord = Codec::Cbor.decode(body).map_err(|e| bad(e.to_string()))?;
            if record.name.as_bytes() != key.bytes() {
                return Err(bad(format!("the state of another one, `{}`", record.name)));
            }
            if record.number > MOST {
                return Err(bad(format!("no breaker has seen {} changes", record.number)));
            }
            Ok(record)
        }
        Some((version, _)) => {
            let text = format!("version {version} is newer than this build reads");
            Err(StoreError::with_source(
                ErrorKind::Corrupt,
                format!("breaker at key {key}: {text}"),
                bad(text.clone()),
            ))
        }
        None => Err(bad("empty".to_owned())),
    }
}
