//! Folders whose files are parts of one dataset.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::choice::{Field, SPLITS, choose_part};
use super::super::file::is_special;
use super::folder::{PICTURES, SOUNDS, entries};
use super::{Content, FORMATS, Format, Source, suffix};
use crate::error::{Error, ErrorKind, Result};

/// Limit of the depth of files, as in `data/en/train-00000.parquet`.
const DEPTH: usize = 3;

/// Limit of files per folder.
const MOST: usize = 100_000;

/// The files of one format below a folder, in the order of their paths.
///
/// # Errors
/// [`ErrorKind::Io`] where a folder cannot be read; [`ErrorKind::Calibration`] for too many files.
pub(super) fn of(folder: &Path, format: &Format) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    add(folder, format.suffixes, DEPTH, &mut found)?;
    Ok(found)
}

/// A source with a note on files of other kinds below its folder.
struct Noted {
    source: Box<dyn Source>,
    note: String,
}

impl Source for Noted {
    fn fields(&self) -> Vec<Field> {
        self.source.fields()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        self.source.read(field)
    }

    fn labels(&mut self, field: &str) -> Result<Content> {
        self.source.labels(field)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.source.notes();
        notes.push(self.note.clone());
        notes
    }
}

/// The files of `format` below a folder as a source, with a note if the folder holds samples of other kinds.
///
/// # Errors
/// [`ErrorKind::Io`] where a folder cannot be read.
pub(super) fn with_note_on_others(
    source: Box<dyn Source>,
    folder: &Path,
    format: &Format,
) -> Result<Box<dyn Source>> {
    let formats = FORMATS.iter().flat_map(|other| other.suffixes);
    let known = formats.chain(PICTURES).chain(SOUNDS).copied();
    let others: Vec<&str> = known.filter(|suffix| !format.suffixes.contains(suffix)).collect();
    let mut unused = Vec::new();
    add(folder, &others, DEPTH, &mut unused)?;
    if unused.is_empty() {
        return Ok(source);
    }
    let dotted = |suffix: &str| format!(".{suffix}");
    let kinds: BTreeSet<String> =
        unused.iter().filter_map(|path| suffix(path)).map(|own| dotted(&own)).collect();
    let kinds: Vec<String> = kinds.into_iter().collect();
    let own: Vec<String> = format.suffixes.iter().map(|suffix| dotted(suffix)).collect();
    let (folder, own, kinds) = (folder.display(), own.join(", "), kinds.join(", "));
    let count = unused.len();
    let note = format!(
        "samples come from the {own} files of {folder}; unused files of other kinds: {count} ({kinds})"
    );
    Ok(Box::new(Noted { source, note }))
}

fn add(folder: &Path, suffixes: &[&str], depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let all = entries(folder)?;
    if all.len() > MOST {
        // So many files are pictures, not shards.
        return Ok(());
    }
    for path in all {
        if path.is_dir() {
            if depth > 1 {
                add(&path, suffixes, depth - 1, found)?;
            }
        } else if suffix(&path).is_some_and(|own| suffixes.contains(&own.as_str()))
            && !is_special(&path)
        {
            found.push(path);
        }
    }
    Ok(())
}

/// The files of a part of the data, selected by the names of files or folders.
///
/// # Errors
/// [`ErrorKind::Calibration`] if there is no such part, or if there are several parts and none is chosen.
pub(super) fn of_part(
    folder: &Path,
    files: Vec<PathBuf>,
    part: Option<&str>,
) -> Result<Vec<PathBuf>> {
    let refused = |message: String| {
        Error::new(ErrorKind::Calibration, format!("{} {message}", folder.display()))
    };
    let Some(part) = part else {
        let parts: BTreeSet<&str> = files
            .iter()
            .filter_map(|file| SPLITS.into_iter().find(|part| belongs(folder, file, part)))
            .collect();
        if parts.len() > 1 {
            let parts: Vec<&str> = parts.into_iter().collect();
            let message = format!("holds several parts of a dataset: {}", parts.join(", "));
            return Err(refused(message).hint(choose_part(&parts)));
        }
        return Ok(files);
    };
    let chosen: Vec<PathBuf> =
        files.into_iter().filter(|file| belongs(folder, file, part)).collect();
    if chosen.is_empty() {
        return Err(refused(format!("has no files of its part '{part}'"))
            .hint("names of files or folders begin with the part, as in train-00000.parquet"));
    }
    Ok(chosen)
}

fn belongs(folder: &Path, file: &Path, part: &str) -> bool {
    let below = file.strip_prefix(folder).unwrap_or(file);
    below.components().any(|component| {
        let name = component.as_os_str().to_string_lossy();
        let rest = name.strip_prefix(part);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']))
    })
}

/// Refuses folders that Hugging Face's `save_to_disk` writes.
///
/// # Errors
/// [`ErrorKind::Calibration`] where the folder holds Arrow files.
pub(super) fn refuse_arrow(folder: &Path) -> Result<()> {
    let mut found = Vec::new();
    add(folder, &["arrow"], 2, &mut found)?;
    if found.is_empty() {
        return Ok(());
    }
    let message = format!("{} holds Arrow files, which are not read", folder.display());
    Err(Error::new(ErrorKind::Calibration, message)
        .hint("write Parquet with `dataset.to_parquet(\"train-00000.parquet\")`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_or_folders_tell_the_part() {
        let folder = Path::new("d");
        let files = || -> Vec<PathBuf> {
            ["d/train-0.parquet", "d/data/test-0.parquet", "d/val/0.parquet", "d/trainer.parquet"]
                .map(PathBuf::from)
                .into()
        };
        let of = |part| of_part(folder, files(), part);
        assert_eq!(of(Some("test")).unwrap(), [PathBuf::from("d/data/test-0.parquet")]);
        assert_eq!(of(Some("val")).unwrap(), [PathBuf::from("d/val/0.parquet")]);
        assert_eq!(of(Some("train")).unwrap(), [PathBuf::from("d/train-0.parquet")]);
        assert!(of(Some("dev")).unwrap_err().to_string().contains("no files of its part 'dev'"));
        let error = of(None).unwrap_err().to_string();
        assert!(error.contains("test, train, val; choose a part of the data with part=test"));
        let plain = vec![PathBuf::from("d/0.parquet")];
        assert_eq!(of_part(folder, plain.clone(), None).unwrap(), plain);
    }
}
