//! Moments and durations as a status page shows them: `#[serde(serialize_with)]`.

use std::time::{Duration, UNIX_EPOCH};

use resurge_store::Timestamp;
use serde::Serializer;

/// The end of the year 9999: what is later has no such form.
const END_MS: u64 = 253_402_300_800_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn time<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    match UNIX_EPOCH.checked_add(Duration::from_millis(at.as_millis())) {
        Some(time) if at.as_millis() < END_MS => {
            to.collect_str(&humantime::format_rfc3339_millis(time))
        }
        _ => to.serialize_u64(at.as_millis()),
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn times<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, to),
        None => to.serialize_none(),
    }
}

/// In whole milliseconds.
pub(super) fn duration<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    let below = Duration::from_nanos((value.subsec_nanos() % 1_000_000).into());
    to.collect_str(&humantime::format_duration(value.saturating_sub(below)))
}

#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn durations<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => duration(value, to),
        None => to.serialize_none(),
    }
}
