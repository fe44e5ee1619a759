//! Where results go: checked before the work starts, written after it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use same_file::is_same_file;

use crate::error::{Error, ErrorKind, Result};
use crate::staging::{Stage, folder_of};

/// Makes sure that `output` can be written and is none of the `inputs`.
///
/// # Errors
/// [`ErrorKind::Usage`] for an output that is an input, by whatever path; [`ErrorKind::Io`] for one
/// that cannot be written.
pub(super) fn check(output: &Path, inputs: &[PathBuf]) -> Result<()> {
    if let Some(input) = inputs.iter().find(|input| is_same_file(input, output).unwrap_or(false)) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the output '{}' is the input '{}'", output.display(), input.display()),
        )
        .hint("write to another file"));
    }
    let metadata = fs::metadata(output).ok();
    if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(Error::new(
            ErrorKind::Io,
            format!("the output '{}' is a folder", output.display()),
        )
        .hint("name a file"));
    }
    // A device or a pipe is written directly and needs no room beside it.
    if metadata.is_some_and(|m| !m.is_file()) {
        return Ok(());
    }
    check_folder(folder_of(output))
}

/// Makes sure that files can be made in `folder`.
///
/// # Errors
/// [`ErrorKind::Io`] where they cannot.
pub(super) fn check_folder(folder: &Path) -> Result<()> {
    tempfile::tempfile_in(folder).map(drop).map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot write into the folder '{}'", folder.display()))
            .because(e)
            .hint("choose a folder that exists and that you may write to")
    })
}

/// Writes a text file whole or not at all.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be written.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let mut stage = Stage::default();
    stage.write(path, |out| out.write_all(text.as_bytes()))?;
    stage.commit().map(drop)
}

/// Prints a result. A reader that has seen enough is no error.
///
/// # Errors
/// [`ErrorKind::Io`] where standard output cannot be written.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, "cannot write to standard output").because(e))
        }
        _ => Ok(()),
    }
}

/// A structure as JSON text.
///
/// # Errors
/// [`ErrorKind::Io`] where it has no JSON form.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot write JSON").because(e))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_is_an_input_is_found_by_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.onnx");
        fs::write(&input, "x").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let mut paths = vec![input.clone(), folder.path().join("b/../a.onnx")];
        let hard = folder.path().join("hard.onnx");
        fs::hard_link(&input, &hard).unwrap();
        paths.push(hard);
        #[cfg(unix)]
        {
            let soft = folder.path().join("soft.onnx");
            std::os::unix::fs::symlink(&input, &soft).unwrap();
            paths.push(soft);
        }
        for path in paths {
            let error = check(&path, std::slice::from_ref(&input)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{}", path.display());
        }
        assert!(check(&folder.path().join("new.onnx"), &[input]).is_ok());
    }

    #[test]
    fn folders_are_no_outputs() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path(), &[]).unwrap_err().kind(), ErrorKind::Io);
        let missing = folder.path().join("missing/joint.onnx");
        assert_eq!(check(&missing, &[]).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn text_replaces_a_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
