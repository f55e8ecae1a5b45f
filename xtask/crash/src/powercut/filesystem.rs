//! A file system in a file: made, mounted, shut down, mounted again.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use resurge_testkit::Failure;

/// Of the file, which is sparse: what XFS wants at least, and some.
const SIZE: u64 = 384 << 20;
/// How often unmounting is tried: a process that was killed takes a moment to let go.
const PATIENCE: usize = 100;

/// Options of `unshare`.
pub(super) const NAMESPACES: [&str; 7] =
    ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

/// Why nothing can be tried here, if so.
pub(super) fn missing() -> Option<String> {
    // The owner of what a process opens in /proc is the process itself.
    if std::fs::metadata("/proc/self").map_or(true, |me| me.uid() != 0) {
        return Some("needs root".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    for tool in ["timeout", "mount", "umount", "xfs_io", "unshare"] {
        if Command::new(tool).arg("--version").output().is_err() && !on_path(tool) {
            return Some(format!("{tool} is not installed"));
        }
    }
    run(Command::new("unshare").args(NAMESPACES).arg("true")).err().map(|e| e.to_string())
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// Runs a command to its end, for a minute at most; what it complains about is the error.
fn run(command: &mut Command) -> Result<(), Failure> {
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=5", "60"]).arg(command.get_program()).args(command.get_args());
    let output = bounded.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let (program, complaint) = (command.get_program(), String::from_utf8_lossy(&output.stderr));
    let complaint = complaint.lines().collect::<Vec<_>>().join(" ");
    Err(format!("{}: {}: {complaint}", program.to_string_lossy(), output.status).into())
}

/// What is left to do when nobody waits any more: free the space.
pub(super) fn abandon(dir: &Path) {
    for kind in Kind::ALL {
        let mounted = dir.join(format!("{kind}.mounted"));
        // Also while it is used, and whether or not it is there.
        drop(run(Command::new("umount").arg("--lazy").arg(mounted)));
    }
    drop(std::fs::remove_dir_all(dir));
}

/// Mounted, but for the time between [`cut`](Self::cut) and [`power_on`](Self::power_on).
#[derive(Debug)]
pub(super) struct FileSystem {
    kind: Kind,
    dir: PathBuf,
    mounted: PathBuf,
}

impl FileSystem {
    pub(super) fn create(kind: Kind, dir: &Path) -> Result<Self, Failure> {
        let filesystem =
            Self { kind, dir: dir.to_owned(), mounted: dir.join(format!("{kind}.mounted")) };
        let image = filesystem.file("image");
        File::create_new(&image)?.set_len(SIZE)?;
        std::fs::create_dir(&filesystem.mounted)?;
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        filesystem.mount()?;
        Ok(filesystem)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// A file beside it, on a disk that stays.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.{name}", self.kind))
    }

    fn mount(&self) -> Result<(), Failure> {
        // The loop device goes when it is unmounted.
        let image = self.file("image");
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.mounted))
    }

    /// From here on nothing reaches the disk, not even the file system's own journal.
    pub(super) fn cut(&self) -> Result<(), Failure> {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mounted))
    }

    /// As after the next boot.
    pub(super) fn power_on(&self) -> Result<(), Failure> {
        self.unmount()?;
        self.mount()
    }

    fn unmount(&self) -> Result<(), Failure> {
        let mut unmounted = Err("never tried".into());
        for _ in 0..PATIENCE {
            unmounted = run(Command::new("umount").arg(&self.mounted));
            if unmounted.is_ok() {
                break;
            }
        }
        unmounted
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            drop(run(Command::new("umount").arg("--lazy").arg(&self.mounted)));
        }
        drop(std::fs::remove_file(self.file("image")));
    }
}
