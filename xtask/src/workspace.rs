//! What `cargo metadata` says about our packages.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;
use crate::steps::cargo;

/// The workspace root.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Our packages and where cargo puts what it builds.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    pub(crate) target: PathBuf,
}

/// One workspace member.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy asks"))]
    pub(crate) manifest: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy asks"))]
    pub(crate) published: bool,
    /// Names of the features without `default`, sorted.
    pub(crate) features: Vec<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy asks"))]
    pub(crate) dependencies: Vec<Dependency>,
    /// The package as cargo describes it.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy asks"))]
    pub(crate) raw: Value,
}

/// A direct dependency as written in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) dev: bool,
}

/// Asks cargo; needs no network and no lock file.
pub(crate) fn load() -> Result<Workspace> {
    let output = cargo(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    parse(&serde_json::from_slice(&output.stdout)?)
}

/// Reads the JSON of `cargo metadata`.
pub(crate) fn parse(metadata: &Value) -> Result<Workspace> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.ok_or("cargo metadata without packages")?;
    let packages = packages.iter().map(package).collect::<Result<Vec<_>>>()?;
    Ok(Workspace { packages, target: text(metadata, "target_directory")?.into() })
}

fn package(raw: &Value) -> Result<Package> {
    let features = raw.get("features").and_then(Value::as_object);
    let mut features: Vec<String> = features
        .into_iter()
        .flat_map(|map| map.keys().cloned())
        .filter(|f| f != "default")
        .collect();
    features.sort_unstable();
    let dependencies = raw.get("dependencies").and_then(Value::as_array).into_iter().flatten();
    Ok(Package {
        name: text(raw, "name")?.to_owned(),
        manifest: text(raw, "manifest_path")?.into(),
        // `null` means everywhere, `[]` nowhere.
        published: raw.get("publish").is_none_or(Value::is_null),
        features,
        dependencies: dependencies.map(dependency).collect::<Result<_>>()?,
        raw: raw.clone(),
    })
}

fn dependency(raw: &Value) -> Result<Dependency> {
    let dev = raw.get("kind").and_then(Value::as_str) == Some("dev");
    Ok(Dependency { name: text(raw, "name")?.to_owned(), dev })
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    let found = value.get(field).and_then(Value::as_str);
    found.ok_or_else(|| format!("cargo metadata without `{field}`").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_workspace() {
        let workspace = load().unwrap();
        let store = workspace.packages.iter().find(|p| p.name == "resurge-store").unwrap();
        assert!(store.published);
        assert!(store.manifest.ends_with("crates/store/Cargo.toml"));
        let xtask = workspace.packages.iter().find(|p| p.name == "xtask").unwrap();
        assert!(!xtask.published);
        assert_eq!(xtask.dependencies, [Dependency { name: "serde_json".into(), dev: false }]);
    }
}
