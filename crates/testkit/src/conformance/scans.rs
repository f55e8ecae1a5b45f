//! Pages: order, limits, bounds, consistency.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use resurge_store::{Batch, Durability, KeyRange, Namespace, Result, ScanOptions, StateStore};

use super::subject::{commit, delete, key, names, ns, pairs, put};
use super::{CaseFailure, Subject, Verdict};

async fn with(subject: &Subject, names: &[&str]) -> Result<Arc<dyn StateStore>, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = Batch::new();
    for name in names {
        batch.put(key(name)?, format!("value of {name}"));
    }
    commit(&*store, batch).await?;
    Ok(store)
}

async fn numbered(subject: &Subject, n: usize) -> Result<Arc<dyn StateStore>, CaseFailure> {
    let names: Vec<String> = (0..n).map(|i| format!("{i:04}")).collect();
    with(subject, &names.iter().map(String::as_str).collect::<Vec<_>>()).await
}

pub(super) async fn entries_come_in_byte_order(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let sorted: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"\x01", b"a", b"a\0", b"aa", b"b", b"\xff\xff"];
    for (i, name) in sorted.iter().enumerate().rev() {
        commit(&*store, put(name, format!("{i}"))?).await?;
    }
    let found = pairs(&*store, ns()?.all(), &ScanOptions::new()).await?;
    let expected: Vec<_> = sorted.iter().map(|name| name.escape_ascii().to_string()).collect();
    let found: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
    ensure_eq!(found, expected, "the order of keys");
    Ok(Verdict::Passed)
}

pub(super) async fn reverse_is_the_exact_reverse(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = numbered(subject, 50).await?;
    let range = ns()?.range(&b"0005"[..]..&b"0040"[..]);
    for size in [1, 7, 1_000] {
        let options = ScanOptions::new().max_entries(size);
        let mut forward = pairs(&*store, range.clone(), &options).await?;
        let reverse = pairs(&*store, range.clone(), &options.reverse()).await?;
        forward.reverse();
        ensure_eq!(reverse, forward, "a reverse scan in pages of {size}");
        ensure_eq!(reverse.len(), 35, "its length");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn pages_hold_at_most_what_was_asked(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = numbered(subject, 50).await?;
    let page = store.scan(ns()?.all(), ScanOptions::new().max_entries(7)).await?;
    ensure_eq!(page.entries.len(), 7, "a page of at most 7 entries");
    ensure!(page.next.is_some(), "a cut page says how to go on");
    let page = store.scan(ns()?.all(), ScanOptions::new().max_bytes(200)).await?;
    let n = page.entries.len();
    ensure!((1..50).contains(&n), "a page of about 200 bytes holds {n} of 50 entries");
    let page = store.scan(ns()?.all(), ScanOptions::new()).await?;
    ensure_eq!(page.entries.len(), 50, "a page with room for all");
    ensure_eq!(page.next, None, "what is left after all");
    let page = store.scan(ns()?.all(), ScanOptions::new().max_entries(50)).await?;
    ensure_eq!(page.entries.len(), 50, "a page of exactly all");
    Ok(Verdict::Passed)
}

pub(super) async fn a_page_holds_one_entry_at_least(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    commit(&*store, put("large", vec![1; 100_000])?).await?;
    commit(&*store, put("other", vec![2; 100_000])?).await?;
    for options in [
        ScanOptions::new().max_bytes(0),
        ScanOptions::new().max_entries(0),
        ScanOptions::new().max_bytes(0).max_entries(0).reverse(),
    ] {
        let page = store.scan(ns()?.all(), options.clone()).await?;
        ensure_eq!(page.entries.len(), 1, "entries with {options:?}");
        ensure_eq!(pairs(&*store, ns()?.all(), &options).await?.len(), 2, "in all, {options:?}");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn keys_only_leaves_values_out(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = numbered(subject, 20).await?;
    let found = pairs(&*store, ns()?.all(), &ScanOptions::new().keys_only()).await?;
    ensure_eq!(found.len(), 20, "the number of keys");
    ensure!(found.iter().all(|(_, value)| value.is_empty()), "a value was returned");
    Ok(Verdict::Passed)
}

pub(super) async fn pages_cover_everything_once(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = numbered(subject, 60).await?;
    let expected: Vec<_> = (0..60).map(|i| format!("{i:04}")).collect();
    for size in [1, 2, 7, 59, 60, 61] {
        for options in [
            ScanOptions::new().max_entries(size),
            ScanOptions::new().max_entries(size).reverse(),
            ScanOptions::new().max_bytes(size * 20),
        ] {
            let found = pairs(&*store, ns()?.all(), &options).await?;
            let mut found: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
            if options.order == resurge_store::Order::Reverse {
                found.reverse();
            }
            ensure_eq!(found, expected, "the keys by {options:?}");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn paging_goes_on_while_keys_come_and_go(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    for (name, options) in [
        ("forward", ScanOptions::new().max_entries(5)),
        ("reverse", ScanOptions::new().max_entries(5).reverse()),
    ] {
        let ns = Namespace::new(name)?;
        let mut batch = Batch::new();
        for i in 0..40 {
            batch.put(ns.key(format!("{i:04}"))?, "v");
        }
        commit(&*store, batch).await?;
        let mut seen = Vec::new();
        let mut rest = Some(ns.all());
        while let Some(range) = rest {
            let page = store.scan(range, options.clone()).await?;
            seen.extend(names(&page));
            // What was read goes, also the key the next page is to follow; a new one comes.
            let mut batch = Batch::new();
            for entry in page.entries {
                batch.delete(entry.key);
            }
            batch.put(ns.key("0020-new")?, "x");
            commit(&*store, batch).await?;
            rest = page.next;
            ensure!(seen.len() < 1_000, "the scan does not come to an end");
        }
        let distinct: BTreeSet<_> = seen.iter().cloned().collect();
        ensure_eq!(distinct.len(), seen.len(), "{name}: distinct keys of those seen");
        for i in 0..40 {
            ensure!(distinct.contains(&format!("{i:04}")), "{name}: key {i} was skipped");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn namespaces_do_not_leak_into_each_other(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    // Prefixes of each other, and keys that continue a name.
    let spaces = ["a", "aa", "a/b", "a-", "b"];
    let mut batch = Batch::new();
    for name in spaces {
        let ns = Namespace::new(name)?;
        for bytes in [&b""[..], b"a", b"/b", b"\xff\xff\xff"] {
            batch.put(ns.key(bytes)?, name);
        }
    }
    commit(&*store, batch).await?;
    for name in spaces {
        let ns = Namespace::new(name)?;
        for options in [ScanOptions::new(), ScanOptions::new().reverse()] {
            let found = pairs(&*store, ns.all(), &options).await?;
            ensure_eq!(found.len(), 4, "entries of namespace `{name}` by {options:?}");
            let own = found.iter().all(|(_, value)| value == name);
            ensure!(own, "namespace `{name}` shows another's entries: {found:?}");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn ranges_respect_their_bounds(subject: &Subject) -> Result<Verdict, CaseFailure> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let store = with(subject, &["a", "b", "ba", "bb", "c", "d"]).await?;
    let ns = ns()?;
    let (b, c) = (&b"b"[..], &b"c"[..]);
    for (what, range, expected) in [
        ("b..c", ns.range(b..c), vec!["b", "ba", "bb"]),
        ("b..=c", ns.range(b..=c), vec!["b", "ba", "bb", "c"]),
        ("after b, before c", ns.range((Excluded(b), Excluded(c))), vec!["ba", "bb"]),
        ("after b", ns.range((Excluded(b), Unbounded)), vec!["ba", "bb", "c", "d"]),
        ("up to b", ns.range((Unbounded, Included(b))), vec!["a", "b"]),
        ("below b", ns.range(..b), vec!["a"]),
        ("from c", ns.range(c..), vec!["c", "d"]),
        ("prefix b", ns.prefix("b"), vec!["b", "ba", "bb"]),
        ("prefix bb", ns.prefix("bb"), vec!["bb"]),
        ("all", ns.all(), vec!["a", "b", "ba", "bb", "c", "d"]),
    ] {
        for size in [2, 1_000] {
            let options = ScanOptions::new().max_entries(size);
            let found = pairs(&*store, range.clone(), &options).await?;
            let found: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
            ensure_eq!(found, expected, "{what}, forward");
            let found = pairs(&*store, range.clone(), &options.reverse()).await?;
            let found: Vec<_> = found.into_iter().rev().map(|(name, _)| name).collect();
            ensure_eq!(found, expected, "{what}, reverse");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn an_empty_range_is_an_empty_page(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = with(subject, &["a", "b", "c"]).await?;
    let ns = ns()?;
    for (what, range) in [
        ("no such prefix", ns.prefix("x")),
        ("equal bounds", ns.range(&b"b"[..]..&b"b"[..])),
        ("bounds the wrong way round", ns.range(&b"c"[..]..&b"a"[..])),
        ("an empty namespace", Namespace::new("unused")?.all()),
    ] {
        for options in [ScanOptions::new(), ScanOptions::new().reverse()] {
            let page = store.scan(range.clone(), options.clone()).await?;
            ensure_eq!(page.entries.len(), 0, "entries of {what} by {options:?}");
            ensure_eq!(page.next, None, "what is left of {what} by {options:?}");
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn everything_spans_namespaces(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let mut batch = Batch::new();
    for name in ["x", "y", "longer-name"] {
        for i in 0..5 {
            batch.put(Namespace::new(name)?.key([i])?, name);
        }
    }
    commit(&*store, batch).await?;
    for options in [ScanOptions::new(), ScanOptions::new().max_entries(4).reverse()] {
        let found = pairs(&*store, KeyRange::everything(), &options).await?;
        ensure_eq!(found.len(), 15, "entries of everything by {options:?}");
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_scan_sees_overwritten_and_deleted_keys_as_they_are(
    subject: &Subject,
) -> Result<Verdict, CaseFailure> {
    let store = numbered(subject, 30).await?;
    for round in 0..5 {
        let mut batch = Batch::new();
        for i in 0..30 {
            let name = format!("{i:04}");
            if (i + round) % 3 == 0 {
                batch.delete(key(&name)?);
            } else {
                batch.put(key(&name)?, format!("{round}"));
            }
        }
        // At once, then again when the backend had time to move it to where it lives.
        commit(&*store, batch).await?;
        let expected: Vec<_> = (0..30)
            .filter(|i| (i + round) % 3 != 0)
            .map(|i| (format!("{i:04}"), Bytes::from(format!("{round}"))))
            .collect();
        let now = pairs(&*store, ns()?.all(), &ScanOptions::new().max_entries(7)).await?;
        ensure_eq!(now, expected, "round {round}, at once");
        store.sync().await?;
        let later = pairs(&*store, ns()?.all(), &ScanOptions::new()).await?;
        ensure_eq!(later, expected, "round {round}, after a sync");
    }
    Ok(Verdict::Passed)
}

/// Keys of one batch, in two namespaces so that a page of everything spans both.
fn torn_keys() -> Result<Vec<resurge_store::Key>> {
    let spaces = [Namespace::new("torn/left")?, Namespace::new("torn/right")?];
    spaces.iter().flat_map(|ns| (0..20_u8).map(|i| ns.key([i]))).collect()
}

pub(super) async fn a_page_never_tears_a_batch(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = subject.open().await?;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for options in [ScanOptions::new(), ScanOptions::new().reverse()] {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        readers.spawn(async move {
            let mut pages = 0;
            while !done.load(Ordering::Acquire) || pages == 0 {
                let page = store.scan(KeyRange::everything(), options.clone()).await?;
                let values: BTreeSet<Bytes> = page.entries.into_iter().map(|e| e.value).collect();
                ensure!(values.len() <= 1, "one page shows parts of batches {values:?}");
                pages += 1;
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for i in 0..100 {
                let mut batch = Batch::new();
                for key in torn_keys()? {
                    if i % 5 == 4 {
                        batch.delete(key);
                    } else {
                        batch.put(key, format!("{writer}-{i}"));
                    }
                }
                let durability =
                    if i % 2 == 0 { Durability::Durable } else { Durability::Buffered };
                store.commit(batch, durability).await?;
            }
            Ok::<_, CaseFailure>(())
        });
    }
    let written = joined(writers).await;
    done.store(true, Ordering::Release);
    joined(readers).await.and(written)?;
    Ok(Verdict::Passed)
}

async fn joined(
    mut tasks: tokio::task::JoinSet<Result<(), CaseFailure>>,
) -> Result<(), CaseFailure> {
    let mut all = Ok(());
    while let Some(task) = tasks.join_next().await {
        let done = task.unwrap_or_else(|e| Err(CaseFailure::new(format!("a task failed: {e}"))));
        all = all.and(done);
    }
    all
}

pub(super) async fn get_and_scan_agree(subject: &Subject) -> Result<Verdict, CaseFailure> {
    let store = numbered(subject, 30).await?;
    commit(&*store, delete("0003")?).await?;
    commit(&*store, put("0004", "changed")?).await?;
    for entry in store.scan(ns()?.all(), ScanOptions::new()).await?.entries {
        let got = store.get(&entry.key).await?;
        ensure_eq!(got, Some(entry.value.clone()), "get of {}", entry.key);
    }
    ensure_eq!(store.get(&key("0003")?).await?, None, "get of a deleted key");
    Ok(Verdict::Passed)
}
