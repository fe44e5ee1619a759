//! Output files: checked before the work starts, written after it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::naming;
use crate::progress::Progress;
use crate::report::{Frontier, Report};
use crate::staging::{Stage, Target, folder_of, remedy, resolve, same_file, sweep};

/// Checks that `output` can be written and is none of the `inputs`. Removes leftovers of killed runs
/// beside it.
///
/// # Errors
/// [`ErrorKind::Usage`] for an output that is an input, by whatever path; [`ErrorKind::Io`] for one
/// that cannot be written.
pub(crate) fn check(output: &Path, inputs: &[PathBuf]) -> Result<()> {
    check_input(output, inputs)?;
    let target = resolve(output).map_err(|e| match e.kind() {
        io::ErrorKind::IsADirectory => {
            let message = format!("the output '{}' is a folder", output.display());
            Error::new(ErrorKind::Io, message).hint("name a file")
        }
        _ => {
            let message = format!("cannot write the output '{}'", output.display());
            Error::new(ErrorKind::Io, message).because(e).hint("name another file")
        }
    })?;
    match target {
        Target::File(real) => check_folder(folder_of(&real)),
        Target::Stream(_) => Ok(()),
    }
}

/// Checks that `output` is none of the `inputs`, by any path.
///
/// # Errors
/// [`ErrorKind::Usage`] where it is.
pub(crate) fn check_input(output: &Path, inputs: &[PathBuf]) -> Result<()> {
    let Some(input) = inputs.iter().find(|input| same_file(input, output)) else { return Ok(()) };
    let (output, input) = (output.display(), input.display());
    Err(Error::new(ErrorKind::Usage, format!("the output '{output}' is the input '{input}'"))
        .hint("write to another file"))
}

/// Checks that `output` is a file that can be read again.
///
/// # Errors
/// [`ErrorKind::Usage`] for a device or a pipe.
pub(crate) fn check_file(output: &Path) -> Result<()> {
    match resolve(output) {
        Ok(Target::Stream(_)) => {
            let message = format!("'{}' is a device or a pipe", output.display());
            Err(Error::new(ErrorKind::Usage, message).hint("name a file"))
        }
        _ => Ok(()),
    }
}

/// Checks that no two `outputs` are one file.
///
/// # Errors
/// [`ErrorKind::Usage`] where they are.
pub(crate) fn check_distinct<'a>(outputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let mut seen: Vec<PathBuf> = Vec::new();
    for output in outputs {
        let Ok(Target::File(real)) = resolve(output) else { continue };
        let folder = folder_of(&real).canonicalize().unwrap_or_default();
        let place = folder.join(real.file_name().unwrap_or_default());
        if seen.contains(&place) {
            let message = format!("'{}' would be written twice", output.display());
            return Err(
                Error::new(ErrorKind::Usage, message).hint("give every output its own name")
            );
        }
        seen.push(place);
    }
    Ok(())
}

/// Checks that files can be created in `folder`.
fn check_folder(folder: &Path) -> Result<()> {
    sweep(folder);
    tempfile::tempfile_in(folder).map(drop).map_err(|e| {
        let hint = remedy(&e);
        let message = format!("cannot write into the folder '{}'", folder.display());
        Error::new(ErrorKind::Io, message).because(e).hint(hint)
    })
}

/// Writes text files, all of them whole or none at all.
///
/// # Errors
/// [`ErrorKind::Io`] where one cannot be written.
pub(crate) fn write<'a>(
    files: impl IntoIterator<Item = (&'a Path, &'a str)>,
    progress: &dyn Progress,
) -> Result<()> {
    let mut stage = Stage::new(progress);
    for (path, text) in files {
        stage.write(path, |out| out.write_all(text.as_bytes()))?;
    }
    stage.commit().map(drop)
}

/// The format of a report, by its file's suffix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Markdown,
    Csv,
    Html,
}

impl Format {
    fn of(path: &Path) -> Format {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("json") => Format::Json,
            Some("md") => Format::Markdown,
            Some("csv") => Format::Csv,
            _ => Format::Html,
        }
    }
}

/// The report of a merge in the format of its file: JSON, a model card in Markdown, or HTML.
///
/// # Errors
/// [`ErrorKind::Usage`] for HTML in a build without it.
pub(crate) fn report(path: &Path, report: &Report) -> Result<String> {
    match Format::of(path) {
        Format::Json => json(report),
        Format::Markdown => Ok(crate::report::card(report)),
        #[cfg(feature = "html")]
        _ => Ok(crate::report::html(report)),
        #[cfg(not(feature = "html"))]
        _ => Err(no_html()),
    }
}

/// A curve in the format of its file: JSON, CSV, Markdown, or HTML.
///
/// # Errors
/// As [`report`].
pub(crate) fn frontier(path: &Path, curve: &Frontier) -> Result<String> {
    match Format::of(path) {
        Format::Json => json(curve),
        Format::Markdown => Ok(curve.markdown()),
        Format::Csv => Ok(curve.csv()),
        #[cfg(feature = "html")]
        Format::Html => Ok(curve.html()),
        #[cfg(not(feature = "html"))]
        Format::Html => Err(no_html()),
    }
}

#[cfg(not(feature = "html"))]
fn no_html() -> Error {
    Error::new(ErrorKind::Usage, "this build writes no HTML reports")
        .hint("name a .json file, or build with the feature `html`")
}

/// A structure as JSON text.
///
/// # Errors
/// [`ErrorKind::Io`] where it has no JSON form.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot write JSON").because(e))?;
    text.push('\n');
    Ok(naming::json(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::progress::Silent;

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

    #[cfg(unix)]
    #[test]
    fn one_file_by_two_names_is_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("a.json", path("link.json")).unwrap();
        fs::create_dir(path("b")).unwrap();
        for other in ["a.json", "b/../a.json", "link.json"] {
            let error = check_distinct([path("a.json"), path(other)].iter().map(PathBuf::as_path))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{other}");
        }
        assert!(
            check_distinct(
                [path("a.json"), path("b.json"), "/dev/null".into()].iter().map(PathBuf::as_path)
            )
            .is_ok()
        );
    }

    #[test]
    fn text_replaces_a_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        write([(path.as_path(), "one")], &Silent).unwrap();
        write([(path.as_path(), "two")], &Silent).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
