//! The package for a registry holds all files that its build reads, and nothing large.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::scanner::all_files;

/// Limit of the package's bytes before compression. Registries take at most 10 MB, compressed.
const MOST_BYTES: u64 = 8 << 20;

/// Macros that read a file when the crate is built.
const READERS: [&str; 3] = ["include_str!(\"", "include_bytes!(\"", "include!(\""];

#[test]
fn the_package_holds_what_its_build_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = listed(root);
    let mut read: BTreeSet<PathBuf> =
        ["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md"]
            .map(PathBuf::from)
            .into();
    for (path, text) in all_files() {
        let path = Path::new("src").join(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        for reader in READERS {
            let names = text.split(reader).skip(1).filter_map(|rest| rest.split('"').next());
            read.extend(names.map(|name| tidy(&folder.join(name))));
        }
        read.insert(path);
    }
    assert!(read.len() > 500);
    let missing: Vec<&PathBuf> = read.difference(&listed).collect();
    assert!(missing.is_empty(), "the package lacks {missing:?}");
    let bytes: u64 =
        listed.iter().filter_map(|path| fs::metadata(root.join(path)).ok()).map(|m| m.len()).sum();
    assert!(bytes < MOST_BYTES, "the package has {bytes} bytes");
}

/// The files of the package.
fn listed(root: &Path) -> BTreeSet<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline", "--package", "onnx-zip"]);
    let done = cargo.current_dir(root).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// A path without `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(tidy.pop()),
            part => tidy.push(part),
        }
    }
    tidy
}
