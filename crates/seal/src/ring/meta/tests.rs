//! Metadata byte for byte.
