//! From file system and log errors to what a caller of the store should do.

use std::io;
use std::path::Path;

use resurge_commit_log::LogError;
use resurge_store::{ErrorKind, StoreError};

/// Whether the file system says that space, or a quota, is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// For `map_err`, outside of commits: what failed is not part of the state yet.
pub(crate) fn io_error<'a>(
    op: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| {
        let kind = if is_full(&source) { ErrorKind::Full } else { ErrorKind::Unavailable };
        let message = format!("cannot {op} {}: {source}", path.display());
        StoreError::with_source(kind, message, source)
    }
}

/// The bytes of `path` failed their check.
pub(crate) fn corrupt(path: &Path, what: impl std::fmt::Display) -> StoreError {
    StoreError::new(ErrorKind::Corrupt, format!("{}: {what}", path.display()))
}

/// A log error while opening or reading: nothing was promised yet.
pub(crate) fn while_opening(error: LogError) -> StoreError {
    let kind = match &error {
        LogError::Corrupt { .. } | LogError::Cut { .. } => ErrorKind::Corrupt,
        LogError::Full { .. } => ErrorKind::Full,
        LogError::Io { source, .. } if is_full(source) => ErrorKind::Full,
        LogError::Closed | LogError::Poisoned { .. } => ErrorKind::Closed,
        LogError::Invalid { .. } | LogError::TooLarge { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    StoreError::with_source(kind, text(&error), error)
}

/// A log error while writing: only what certainly wrote nothing may say so.
pub(crate) fn while_writing(error: LogError) -> StoreError {
    let kind = match &error {
        LogError::Full { .. } => ErrorKind::Full,
        LogError::TooLarge { .. } | LogError::Invalid { .. } => ErrorKind::Invalid,
        LogError::Closed | LogError::Poisoned { .. } => ErrorKind::Closed,
        _ => ErrorKind::Indeterminate,
    };
    StoreError::with_source(kind, text(&error), error)
}

/// The message with the causes that the log keeps as sources.
fn text(error: &LogError) -> String {
    match error {
        LogError::Io { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_failed_write_is_never_called_harmless() {
        let io = |kind: io::ErrorKind| LogError::Io {
            op: "write",
            path: "x".into(),
            source: Arc::new(kind.into()),
        };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            assert_eq!(while_writing(io(kind)).kind(), ErrorKind::Indeterminate);
        }
        assert_eq!(while_opening(io(io::ErrorKind::StorageFull)).kind(), ErrorKind::Full);
        assert_eq!(while_opening(io(io::ErrorKind::Other)).kind(), ErrorKind::Unavailable);
        assert_eq!(while_writing(LogError::Full { needed: 1 }).kind(), ErrorKind::Full);
    }
}
