//! How durations are written: for people, and on disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use resurge_store::Codec;

use super::AttemptOutcome;
use crate::alert::AlertKind;

#[test]
fn durations_name_their_unit_for_people_and_are_milliseconds_on_disk() {
    let waiting = AttemptOutcome::Waiting { suspended: Duration::from_millis(500) };
    let shown = serde_json::to_string(&waiting).unwrap();
    assert_eq!(shown, r#"{"waiting":{"suspended":"500ms"}}"#);
    assert_eq!(serde_json::from_str::<AttemptOutcome>(&shown).unwrap(), waiting);

    let alert = AlertKind::RecoveryTime { down_for: Duration::from_millis(61_234) };
    let shown = serde_json::to_string(&alert).unwrap();
    assert_eq!(shown, r#"{"recovery_time":{"down_for":"1m 1s 234ms"}}"#);
    assert_eq!(serde_json::from_str::<AlertKind>(&shown).unwrap(), alert);

    let stored = Codec::Cbor.encode(&waiting).unwrap();
    let expected = Codec::Cbor.encode(&serde_json::json!({"waiting": {"suspended": 500}})).unwrap();
    assert_eq!(stored, expected);
    assert_eq!(Codec::Cbor.decode::<AttemptOutcome>(&stored).unwrap(), waiting);
}
