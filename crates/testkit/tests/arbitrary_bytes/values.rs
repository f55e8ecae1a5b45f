//! Records and batches: what is decoded is what was encoded, or nothing.

use std::ops::Range;

use bytes::Bytes;
use resurge_store::{Batch, ErrorKind, Namespace, Record, Timestamp};
use resurge_testkit::mangle;

use super::seal;

pub(super) fn records(cases: Range<u64>) {
    let key = Namespace::new("harmed").unwrap().key("k").unwrap();
    let (mut refused, total) = (0, cases.end);
    for seed in cases {
        let payload = vec![seed.to_be_bytes()[7]; usize::try_from(seed % 90).unwrap()];
        let mut record = Record::new(payload);
        if seed % 2 == 0 {
            record = record.expires_at(Timestamp::from_millis(seed));
        }
        let stored = record.encode(&key);
        let mut harmed = mangle(&stored, seed);
        let forged = seed % 3 == 0 && harmed.len() > 4;
        if forged {
            let end = harmed.len() - 4;
            let crc = crc32c::crc32c_append(crc32c::crc32c(key.raw()), &harmed[..end]);
            seal(&mut harmed, end, crc);
        }
        let harmed = Bytes::from(harmed);
        match Record::decode(&key, &harmed) {
            Ok(found) => assert!(forged || (found == record && harmed == stored), "seed {seed}"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "seed {seed}");
                refused += 1;
            }
        }
    }
    assert!(refused > total / 2, "{refused}");
}

/// Batches have no checksum of their own: what is decoded must be what the bytes say.
pub(super) fn batches(cases: Range<u64>) {
    let ns = Namespace::new("harmed").unwrap();
    let mut batch = Batch::new();
    for n in 0..6_u8 {
        batch
            .put(ns.key([n]).unwrap(), vec![n; usize::from(n) * 11])
            .delete(ns.key([n; 9]).unwrap());
    }
    let mut written = Vec::new();
    batch.encode_ops(&mut written);
    let (mut refused, total) = (0, cases.end);
    for seed in cases {
        let harmed = Bytes::from(mangle(&written, seed));
        match Batch::decode_ops(harmed.clone()) {
            Ok(found) => {
                let mut again = Vec::new();
                found.encode_ops(&mut again);
                assert_eq!(again, harmed, "seed {seed}");
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "seed {seed}");
                refused += 1;
            }
        }
    }
    assert!(refused > total / 2, "{refused}");
}
