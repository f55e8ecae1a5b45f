//! Manifests and chunks of snapshots.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    resurge_fuzz::snapshot(input);
});
