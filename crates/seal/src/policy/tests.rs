//! What is sensitive.
