//! What was done, counted outside of any store: one line in a file for each time.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// A file that steps leave traces in. It knows nothing of the store, so it cannot be wrong with it.
#[derive(Clone, Debug)]
pub struct Effects {
    path: PathBuf,
}

impl Effects {
    /// Traces in this file, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Leaves a trace and returns how many of that name there are now.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave(&self, name: &str) -> io::Result<u64> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        // One write to a file opened for appending: whole, or not at all.
        file.write_all(format!("{name}\n").as_bytes())?;
        self.count(name)
    }

    /// How many traces of that name there are.
    ///
    /// # Errors
    /// What the system says.
    pub fn count(&self, name: &str) -> io::Result<u64> {
        Ok(self.counts()?.get(name).copied().unwrap_or(0))
    }

    /// How many traces there are, by name.
    ///
    /// # Errors
    /// What the system says.
    pub fn counts(&self) -> io::Result<BTreeMap<String, u64>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let mut counts = BTreeMap::new();
        for name in text.lines() {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::Effects;

    #[test]
    fn traces_are_counted_by_name() {
        let name = format!("resurge-effects-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let effects = Effects::at(&path);
        let before = effects.count("a").unwrap();
        let counts = [effects.leave("a"), effects.leave("ab"), effects.leave("a")];
        let all = effects.counts();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(before, 0);
        assert_eq!(counts.map(Result::unwrap), [1, 1, 2]);
        assert_eq!(
            all.unwrap().into_iter().collect::<Vec<_>>(),
            [("a".into(), 2), ("ab".into(), 1)]
        );
    }
}
