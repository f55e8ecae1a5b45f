//! The sled index against a map, and against its own files.
