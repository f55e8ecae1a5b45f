//! The rules of this repository, as tests: `cargo test -p xtask` is the whole of tidy.
//!
//! Each rule is a function from what it looks at to a list of violations, tested once against
//! planted violations and once against the repository.

mod docs;
mod edges;
mod files;
mod manifests;
mod metrics;
mod source;

/// Fails with every violation, one per line.
#[track_caller]
fn assert_clean(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
