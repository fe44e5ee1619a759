//! Paths in a plan, relative to the plan's folder.

use std::path::{Component, Path, PathBuf};

use crate::staging::folder_of;

/// Resolves a path in the plan at `plan`. Paths of a plan that is piped, as from `/dev/stdin`, count from the working
/// folder.
pub fn resolved(plan: &Path, file: &Path) -> PathBuf {
    let folder = plan.parent().filter(|_| !plan.starts_with("/dev")).unwrap_or(Path::new(""));
    folder.join(file)
}

/// Makes a path relative to the plan at `plan`. Absolute paths stay.
pub(super) fn seen_from(plan: &Path, file: &Path) -> PathBuf {
    let folder = folder_of(plan);
    if file.is_absolute() || folder == Path::new(".") {
        return file.to_owned();
    }
    match folder.canonicalize().ok().zip(file.canonicalize().ok()) {
        Some((folder, file)) => between(&folder, &file),
        None => file.to_owned(),
    }
}

/// The relative path from a folder to a file, both absolute.
fn between(folder: &Path, file: &Path) -> PathBuf {
    let (from, to): (Vec<_>, Vec<_>) = (folder.components().collect(), file.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from.iter().skip(common).map(|_| Component::ParentDir);
    up.chain(to.into_iter().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_count_from_the_plan() {
        let way = |a: &str, b: &str| between(Path::new(a), Path::new(b));
        assert_eq!(way("/a/b", "/a/b/c/d"), Path::new("c/d"));
        assert_eq!(way("/a/b/x", "/a/c"), Path::new("../../c"));
        assert_eq!(
            resolved(Path::new("plans/p.toml"), Path::new("../a.onnx")),
            Path::new("plans/../a.onnx")
        );
        assert_eq!(resolved(Path::new("p.toml"), Path::new("a.onnx")), Path::new("a.onnx"));
        assert_eq!(resolved(Path::new("/dev/stdin"), Path::new("x/a.onnx")), Path::new("x/a.onnx"));
        assert_eq!(resolved(Path::new("x/p.toml"), Path::new("/a.onnx")), Path::new("/a.onnx"));
        assert_eq!(seen_from(Path::new("p.toml"), Path::new("a.onnx")), Path::new("a.onnx"));
    }
}
