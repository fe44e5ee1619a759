//! Folders of pictures or sounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array1;

use super::super::choice::{Field, Kind};
use super::super::complaints::unreadable;
use super::super::file::is_special;
use super::super::media::Paths;
use super::{Content, FORMATS, Source, suffix};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::counted;
use crate::runtime::HostArray;

/// Suffixes of pictures.
pub(super) const PICTURES: &[&str] = &["png", "jpg", "jpeg", "webp", "bmp"];

/// Suffixes of sounds.
pub(super) const SOUNDS: &[&str] = &["wav"];

/// Limit of the depth of folders inside a class, which also ends circles of links.
const DEPTH: usize = 8;

/// Limit of the depth of folders inside a folder of samples.
pub(crate) const DEEPEST: usize = DEPTH + 1;

/// The pictures or sounds under a folder, not yet read.
#[derive(Debug)]
pub(super) struct Listing {
    /// The files, sorted: class by class, by path within a class.
    pub(super) files: Vec<PathBuf>,
    /// The class of each file, if the folder has one sub-folder per class.
    pub(super) labels: Option<Vec<i64>>,
    /// Names of the sub-folders in order: the class numbers.
    pub(super) classes: Vec<String>,
    /// Number of files of other kinds.
    pub(super) skipped: usize,
    /// Suffixes of the files.
    suffixes: &'static [&'static str],
}

impl Listing {
    /// Lists the pictures of `folder`, or its sounds if there are no pictures.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a folder cannot be read; [`ErrorKind::Calibration`] if there are neither
    /// pictures nor sounds, or files both in the folder and in sub-folders.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let pictures = Self::of_kind(folder, PICTURES)?;
        let listing = match pictures.files.is_empty() {
            true => Self::of_kind(folder, SOUNDS)?,
            false => pictures,
        };
        if listing.files.is_empty() {
            let known: Vec<String> =
                PICTURES.iter().chain(SOUNDS).map(|s| format!(".{s}")).collect();
            let (shown, known) = (folder.display(), known.join(", "));
            let message = format!("{shown} holds no images and no sounds ({known})");
            let error = Error::new(ErrorKind::Calibration, message);
            let hint = of_one_file(folder)?;
            return Err(hint.into_iter().fold(error, Error::hint));
        }
        Ok(listing)
    }

    fn of_kind(folder: &Path, suffixes: &'static [&'static str]) -> Result<Self> {
        let mut listing =
            Listing { files: Vec::new(), labels: None, classes: Vec::new(), skipped: 0, suffixes };
        let (folders, loose): (Vec<_>, Vec<_>) =
            entries(folder)?.into_iter().partition(|path| path.is_dir());
        listing.add(loose);
        let loose = listing.files.len();
        let mut labels = Vec::new();
        for (class, path) in folders.iter().enumerate() {
            listing.add_folder(path, DEPTH)?;
            labels.resize(listing.files.len() - loose, class as i64);
            listing.classes.push(path.file_name().unwrap_or_default().to_string_lossy().into());
        }
        match (loose, labels.is_empty()) {
            (0, false) => Ok(Listing { labels: Some(labels), ..listing }),
            (_, true) => Ok(Listing { classes: Vec::new(), ..listing }),
            (_, false) => {
                let folder = folder.display();
                let message =
                    format!("{folder} holds files both beside and inside its sub-folders");
                Err(Error::new(ErrorKind::Calibration, message)
                    .hint("keep one sub-folder per class, or no sub-folders"))
            }
        }
    }

    fn add_folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let (folders, files): (Vec<_>, Vec<_>) =
            entries(folder)?.into_iter().partition(|path| path.is_dir());
        self.add(files);
        match depth.checked_sub(1) {
            Some(depth) => folders.iter().try_for_each(|inner| self.add_folder(inner, depth)),
            None => Ok(()),
        }
    }

    fn add(&mut self, files: Vec<PathBuf>) {
        for file in files {
            let is_known = suffix(&file).is_some_and(|own| self.suffixes.contains(&own.as_str()));
            if is_known && !is_special(&file) {
                self.files.push(file);
            } else {
                self.skipped += 1;
            }
        }
    }
}

/// The hint to name the first file of a known format in a folder.
fn of_one_file(folder: &Path) -> Result<Option<Hint>> {
    let is_known = |path: &PathBuf| {
        let own = suffix(path).unwrap_or_default();
        FORMATS.iter().any(|format| format.suffixes.contains(&own.as_str()))
    };
    let file = entries(folder)?.into_iter().find(is_known);
    let named =
        |file: PathBuf| Hint::from("name the file: ").option_as("data", file.display().to_string());
    Ok(file.map(named))
}

/// The entries of a folder in the order of their names, without hidden ones.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Opens a folder of pictures or sounds.
///
/// # Errors
/// As [`Listing::of`].
pub(super) fn open(folder: &Path) -> Result<Box<dyn Source>> {
    Ok(Box::new(Folder { place: folder.to_owned(), listing: Listing::of(folder)? }))
}

struct Folder {
    place: PathBuf,
    listing: Listing,
}

impl Source for Folder {
    fn fields(&self) -> Vec<Field> {
        let media = Field { name: "file".into(), kind: Kind::Media };
        let labels = self.listing.labels.is_some().then(|| Field::array("labels"));
        std::iter::once(media).chain(labels).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        match self.listing.labels.as_ref().filter(|_| field == "labels") {
            Some(labels) => {
                let labels = Array1::from_vec(labels.clone()).into_dyn();
                Ok(Content::Array(Arc::new(HostArray::from(labels))))
            }
            None => Ok(Content::Media(Arc::new(Paths(self.listing.files.clone())))),
        }
    }

    fn notes(&self) -> Vec<String> {
        let Listing { skipped, classes, suffixes, .. } = &self.listing;
        let mut notes = Vec::new();
        if *skipped > 0 {
            let known: Vec<String> = suffixes.iter().map(|suffix| format!(".{suffix}")).collect();
            let (folder, known) = (self.place.display(), known.join(", "));
            let files = counted(*skipped, "file");
            notes.push(format!("{files} in {folder} skipped: none of {known}"));
        }
        if !classes.is_empty() {
            notes.push(format!("labels are the sub-folders in order: {}", classes.join(", ")));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_folders_are_classes_in_the_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        for name in ["dog/b.png", "dog/a.JPG", "cat/z/c.jpeg", "cat/notes.txt", ".hidden/d.png"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let listing = Listing::of(root.path()).unwrap();
        let expected = ["cat/z/c.jpeg", "dog/a.JPG", "dog/b.png"].map(|f| root.path().join(f));
        assert_eq!(listing.files, expected);
        assert_eq!(listing.labels, Some(vec![0, 1, 1]));
        assert_eq!(listing.classes, ["cat", "dog"]);
        assert_eq!(listing.skipped, 1);
    }

    #[test]
    fn folders_without_or_with_mixed_images_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = Listing::of(root.path()).unwrap_err();
        assert!(error.to_string().contains("no images and no sounds"), "{error}");
        fs::write(root.path().join("a.png"), b"").unwrap();
        assert_eq!(Listing::of(root.path()).unwrap().labels, None);
        fs::create_dir(root.path().join("cat")).unwrap();
        fs::write(root.path().join("cat/b.png"), b"").unwrap();
        let error = Listing::of(root.path()).unwrap_err();
        assert!(error.to_string().contains("both beside and inside"), "{error}");
        assert_eq!(Listing::of(Path::new("/not/there")).unwrap_err().kind(), ErrorKind::Io);
    }
}
