#![doc = include_str!("../README.md")]

mod index;

pub use index::{
    Change, Digest, Index, IndexError, IndexErrorKind, IndexFactory, IndexMeta, IndexResult,
    OpenedIndex,
};
