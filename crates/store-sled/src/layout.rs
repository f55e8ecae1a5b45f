//! What the files of a store are called.

use std::path::{Path, PathBuf};

/// Paths inside the directory of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) super_file: PathBuf,
    pub(crate) super_tmp: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) images: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) quarantine: PathBuf,
    pub(crate) ballast: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            lock: root.join("LOCK"),
            super_file: root.join("super"),
            super_tmp: root.join("super.tmp"),
            log: root.join("log"),
            images: root.join("images"),
            index: root.join("index"),
            quarantine: root.join("quarantine"),
            ballast: root.join("ballast"),
        }
    }

    /// The image that begins at `seq`.
    pub(crate) fn image(&self, seq: u64) -> PathBuf {
        self.images.join(format!("{seq:016x}.img"))
    }

    /// The same while it is being written.
    pub(crate) fn image_tmp(&self, seq: u64) -> PathBuf {
        self.images.join(format!("{seq:016x}.tmp"))
    }
}

/// The sequence that a file name stands for; `None` when it is no image's name.
pub(crate) fn image_seq(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".img")?;
    let canonical = hex.len() == 16 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u64::from_str_radix(hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_name_is_read_back_and_nothing_else_is_one() {
        let path = Layout::new(Path::new("s")).image(0xabc);
        assert_eq!(image_seq(path.file_name().unwrap().to_str().unwrap()), Some(0xabc));
        for name in
            ["abc.img", "0000000000000ABC.img", "0000000000000abc.tmp", "+00000000000abc.img"]
        {
            assert_eq!(image_seq(name), None, "{name}");
        }
    }
}
