//! The operations of a batch, as the log holds them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    use resurge_store::Batch;
    if let Ok(batch) = Batch::decode_ops(input.to_vec().into()) {
        let mut again = Vec::new();
        batch.encode_ops(&mut again);
        assert_eq!(again, input, "read as something else than it is");
    }
});
