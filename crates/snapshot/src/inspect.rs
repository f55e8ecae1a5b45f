//! Looking at snapshots without their types and without opening them: for tools.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), resurge_snapshot::SnapshotError> {
//! use resurge_snapshot::{SnapshotOptions, Snapshots, inspect};
//! use resurge_store::Store;
//! let store = Store::memory();
//! let stock = Snapshots::<u32>::open(&store, "stock", SnapshotOptions::new()).await?;
//! stock.take(7, 1).await?;
//!
//! assert_eq!(inspect::names(&store, None, 10).await?, ["stock"]);
//! assert_eq!(inspect::list(&store, "stock").await?.snapshots.len(), 1);
//! # Ok(()) }
//! ```

use resurge_store::{ScanOptions, Store};

use crate::layout::{self, Layout};
use crate::snapshots::list_manifests;
use crate::{Listing, Result};

/// The names there are snapshots under, in the order of their keys, after `after`, at most `limit`.
/// One small read each.
///
/// # Errors
/// Those of the store; `Invalid` when `after` cannot be a name.
pub async fn names(store: &Store, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let options = ScanOptions::new().max_entries(1).keys_only();
    let mut range = match after {
        Some(name) => Layout::new(name)?.after(),
        None => layout::all()?,
    };
    while found.len() < limit {
        let page = store.scan(range, options.clone()).await?;
        let Some(name) = page.entries.first().and_then(|entry| layout::name_of(&entry.key)) else {
            break;
        };
        range = Layout::new(name)?.after();
        found.push(name.to_owned());
    }
    Ok(found)
}

/// Every snapshot under `name` by its manifest, as [`Snapshots::list`](crate::Snapshots::list).
///
/// # Errors
/// Those of the store; `Invalid` for what cannot be a name.
pub async fn list(store: &Store, name: &str) -> Result<Listing> {
    list_manifests(store, &Layout::new(name)?).await
}
