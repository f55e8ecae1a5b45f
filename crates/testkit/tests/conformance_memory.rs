//! The in-memory store keeps the contract.

resurge_testkit::conformance!(resurge_store::MemoryStore::in_memory);
