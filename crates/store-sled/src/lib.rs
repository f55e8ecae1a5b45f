#![doc = include_str!("../README.md")]

mod drain;
mod index;
mod overlay;

pub use drain::Drainer;
pub use index::{
    Change, Digest, Index, IndexError, IndexErrorKind, IndexFactory, IndexMeta, IndexResult,
    OpenedIndex, SledIndex, SledIndexFactory, SledIndexOptions,
};
pub use overlay::{OnIndexFailure, Overlay, OverlayOptions, OverlayStatus};
