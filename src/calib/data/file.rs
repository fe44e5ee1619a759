//! Opens files of samples.

use std::fs::{self, File};
use std::path::Path;

use super::complaints::unreadable;
use crate::error::{Error, ErrorKind, Result};

/// Opens a regular file. Devices may have no end, and a pipe without a writer would not open.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be opened; [`ErrorKind::Calibration`] for anything but a regular file.
pub(super) fn opened(path: &Path) -> Result<File> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        let message = format!("{} is no regular file", path.display());
        return Err(Error::new(ErrorKind::Calibration, message));
    }
    File::open(path).map_err(|error| unreadable(path, error))
}

/// Whether a path is a pipe, a device or the like, which holds no samples.
pub(super) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::formats::{FORMATS, Files};
    use super::super::media::{Media, Paths};
    use super::super::{DataOptions, Dataset};
    use crate::ir::{DataType, Dim};
    use crate::runtime::Port;

    /// A folder with a picture, and a pipe of the given name beside it, if pipes can be made.
    fn with_pipe(name: &str) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
        let folder = tempfile::tempdir().unwrap();
        image::GrayImage::new(3, 2).save(folder.path().join("a.png")).unwrap();
        let pipe = folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        made.is_ok_and(|status| status.success()).then_some((folder, pipe))
    }

    #[test]
    fn pipes_among_pictures_are_no_samples() {
        let Some((folder, pipe)) = with_pipe("b.png") else { return };
        let dims = [Dim::Unknown, Dim::Known(1), Dim::Known(2), Dim::Known(3)];
        let port = Port { name: "x".into(), dtype: DataType::F32, shape: Some(dims.to_vec()) };
        let data = Dataset::open(folder.path(), &[port], &DataOptions::default()).unwrap();
        assert_eq!(data.len(), 1);
        assert!(data.notes().iter().any(|note| note.in_flags().contains("1 file")));
        let error = Paths(vec![pipe]).bytes(&[0]).unwrap_err();
        assert!(error.to_string().contains("b.png is no regular file"), "{error}");
    }

    #[test]
    fn no_format_opens_a_pipe() {
        for format in FORMATS {
            let name = format!("b.{}", format.suffixes[0]);
            let Some((folder, pipe)) = with_pipe(&name) else { return };
            let files = Files { given: folder.path().to_owned(), all: vec![pipe] };
            let opened = (format.open)(&files, &DataOptions::default());
            let error = opened.map(|_| "samples").unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is no regular file")), "{error}");
        }
    }
}
