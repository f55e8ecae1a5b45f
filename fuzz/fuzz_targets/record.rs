//! The record envelope.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    use resurge_store::{Namespace, Record};
    let Ok(key) = Namespace::new("f").and_then(|ns| ns.key("k")) else { return };
    if let Ok(record) = Record::decode(&key, &input.to_vec().into()) {
        assert_eq!(record.encode(&key), input, "read as something else than it is");
    }
});
