//! Names of tasks: given ones, or those of their models' files.

use std::path::Path;

use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::{shown, task_fault, to_task};

/// One name per model: the given names, or file stems made unique.
pub(super) fn task_names(paths: &[&Path], names: &[String]) -> Result<Vec<String>> {
    if !names.is_empty() {
        return check_names(names, paths.len());
    }
    let mut stems: Vec<String> = Vec::new();
    paths.iter().for_each(|path| stems.push(stem(path, &stems)));
    Ok(stems)
}

/// Checks the given names: one valid name per task.
pub(super) fn check_names(names: &[String], tasks: usize) -> Result<Vec<String>> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    if names.len() != tasks {
        let message = format!("{tasks} tasks need as many names, but {} were given", names.len());
        let hint = Hint::from("give ").option("name").then(" once per model, in the models' order");
        return Err(usage(message).hint(hint.then("; a joint model counts as its tasks")));
    }
    for (i, name) in names.iter().enumerate() {
        if let Some(fault) = task_fault(name) {
            let message = format!("'{}' cannot name a task: {fault}", shown(name));
            return Err(usage(message).hint("names of outputs and of files are made of it"));
        }
        if names.iter().take(i).any(|other| other == name) {
            return Err(usage(format!("two tasks are called '{name}'"))
                .hint(Hint::from("give every model another ").option("name")));
        }
    }
    Ok(names.to_vec())
}

/// The stem of a file's name, with a number if it is taken.
pub(super) fn stem(path: &Path, taken: &[String]) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    numbered(to_task(&stem), taken)
}

/// The name, with a number if it is taken.
pub(super) fn numbered(name: String, taken: &[String]) -> String {
    let mut others = (2..).map(|n| format!("{name}_{n}"));
    match taken.contains(&name) {
        true => others.find(|other| !taken.contains(other)).unwrap_or(name.clone()),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stems_made_unique() {
        let paths = ["x/net.onnx", "y/net.onnx", "net_2.onnx"].map(Path::new);
        assert_eq!(task_names(&paths, &[]).unwrap(), ["net", "net_2", "net_2_2"]);
        let odd = ["x/...onnx", "a\u{1b}[2J.onnx"].map(Path::new);
        assert_eq!(task_names(&odd, &[]).unwrap(), ["model", "a_[2J"]);
    }

    #[test]
    fn names_that_cannot_be_output_names_are_refused() {
        let paths = ["a.onnx", "b.onnx"].map(Path::new);
        let names = |a: &str, b: &str| task_names(&paths, &[a.to_owned(), b.to_owned()]);
        assert_eq!(names("cats", "dogs").unwrap(), ["cats", "dogs"]);
        for (a, b) in [("a/b", "c"), ("", "c"), ("c", "c"), ("a\n", "c"), ("..", "c")] {
            assert_eq!(names(a, b).unwrap_err().kind(), ErrorKind::Usage);
        }
        assert!(task_names(&paths, &["a".to_owned()]).is_err());
    }
}
