//! Images: checksummed dumps of the whole key space, taken while commits go on.

mod catalog;
mod format;
mod reader;
mod take;
#[cfg(test)]
mod tests;
mod writer;

pub use catalog::ImageInfo;
pub(crate) use catalog::{find, skip};
pub(crate) use reader::ImageReader;
pub(crate) use writer::ImageWriter;

#[cfg(test)]
use std::path::Path;

#[cfg(test)]
use {
    crate::super_file::ImageSpan,
    bytes::Bytes,
    resurge_store::{Key, Result},
};
