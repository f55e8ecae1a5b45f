//! sled's errors as ours.

use std::io;

use super::super::{IndexError, IndexErrorKind};

/// What a failed sled call means.
pub(super) fn of(call: &str, error: sled::Error) -> IndexError {
    use sled::Error;
    let kind = match &error {
        Error::Io(e) if e.kind() == io::ErrorKind::StorageFull => IndexErrorKind::Full,
        Error::Io(_) => IndexErrorKind::Io,
        // Including what sled takes for a misconfiguration: its settings are in its own files, so a
        // rebuild cures it.
        Error::Corruption { .. }
        | Error::CollectionNotFound(_)
        | Error::Unsupported(_)
        | Error::ReportableBug(_) => IndexErrorKind::Corrupt,
    };
    IndexError::with_source(kind, format!("sled failed in {call}"), error)
}

/// What a failed file operation of ours means.
pub(super) fn io(what: String, error: io::Error) -> IndexError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull => IndexErrorKind::Full,
        _ => IndexErrorKind::Io,
    };
    IndexError::with_source(kind, what, error)
}
