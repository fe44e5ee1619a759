//! Folders of images.

use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader};
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;

use super::archive::unreadable;
use super::fit::Fit;
use super::options::{DataOptions, Resize};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::runtime::HostArray;

const SUFFIXES: [&str; 3] = ["png", "jpg", "jpeg"];

/// How deep folders inside a class are searched; a circle of links ends here.
const DEPTH: usize = 8;

/// The images under a folder, not yet read.
#[derive(Debug)]
pub(super) struct Listing {
    /// The files, sorted: class by class, by path within a class.
    pub(super) files: Vec<PathBuf>,
    /// The class of each file, where the folder has one sub-folder per class.
    pub(super) labels: Option<Vec<i64>>,
    /// Names of the sub-folders in order: the class numbers.
    pub(super) classes: Vec<String>,
    /// Files that are no images of a known kind.
    pub(super) skipped: usize,
}

impl Listing {
    /// Lists the images of `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where a folder cannot be read; [`ErrorKind::Calibration`] where there are
    /// no images, or some in the folder and some in sub-folders.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut listing =
            Listing { files: Vec::new(), labels: None, classes: Vec::new(), skipped: 0 };
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
        let error = |message: &str| {
            Err(Error::new(ErrorKind::Calibration, format!("{} {message}", folder.display())))
        };
        match (loose, labels.is_empty()) {
            (0, true) => error("holds no PNG or JPEG images"),
            (0, false) => Ok(Listing { labels: Some(labels), ..listing }),
            (_, true) => Ok(Listing { classes: Vec::new(), ..listing }),
            (_, false) => error("holds images both beside and inside its sub-folders")
                .map_err(|e: Error| e.hint("keep one sub-folder per class, or no sub-folders")),
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
            let suffix = file.extension().map(|s| s.to_string_lossy().to_ascii_lowercase());
            if suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix.as_str())) {
                self.files.push(file);
            } else {
                self.skipped += 1;
            }
        }
    }
}

/// The entries of a folder in the order of their names, without hidden ones.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
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

/// Images of one size, decoded when they are asked for.
#[derive(Debug)]
pub(super) struct Images {
    files: Vec<PathBuf>,
    frame: Frame,
}

/// What is made of each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    width: u32,
    height: u32,
    /// The size before the centre is cut out.
    resize: Resize,
    grey: bool,
}

impl Images {
    /// Images for an input whose samples are of shape `wanted`, and what is then done with their
    /// axes.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where the input takes no images of one or three channels, or where
    /// their size is open.
    pub(super) fn new(
        files: Vec<PathBuf>,
        input: &str,
        wanted: &[Option<usize>],
        options: &DataOptions,
    ) -> Result<(Self, Fit)> {
        let (frame, fit) = frame(input, wanted, options)?;
        Ok((Images { files, frame }, fit))
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Height, width and channels of each image.
    pub(super) fn sample(&self) -> [usize; 3] {
        let Frame { width, height, grey, .. } = self.frame;
        [height as usize, width as usize, if grey { 1 } else { 3 }]
    }

    /// The images `rows`, as bytes of shape `[rows, height, width, channels]`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] naming a file that cannot be decoded.
    pub(super) fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let decoded: Vec<Vec<u8>> = rows
            .par_iter()
            .filter_map(|row| self.files.get(*row))
            .map(|file| self.frame.decode(file))
            .collect::<Result<_>>()?;
        let [height, width, channels] = self.sample();
        let shape = [decoded.len(), height, width, channels];
        ArrayD::from_shape_vec(IxDyn(&shape), decoded.concat()).map(HostArray::from).map_err(
            |error| Error::new(ErrorKind::Calibration, "images differ in size").because(error),
        )
    }
}

impl Frame {
    fn decode(&self, file: &Path) -> Result<Vec<u8>> {
        let undecodable = |error: image::ImageError| {
            Error::new(ErrorKind::Calibration, format!("{} is not a whole image", file.display()))
                .because(error)
        };
        let reader = ImageReader::open(file)
            .and_then(ImageReader::with_guessed_format)
            .map_err(|error| unreadable(file, error))?;
        let image = reader.decode().map_err(undecodable)?;
        let Resize { width, height } = self.resize;
        let image = if (image.width(), image.height()) == (width, height) {
            image
        } else {
            image.resize_exact(width, height, FilterType::Triangle)
        };
        let (left, top) = ((width - self.width) / 2, (height - self.height) / 2);
        let image: DynamicImage = image.crop_imm(left, top, self.width, self.height);
        Ok(if self.grey { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() })
    }
}

fn frame(input: &str, wanted: &[Option<usize>], options: &DataOptions) -> Result<(Frame, Fit)> {
    let refused = |message: String| Error::new(ErrorKind::Calibration, message);
    let is_channels = |size: Option<usize>| matches!(size, Some(1 | 3));
    let (height, width, channels, fit) = match *wanted {
        [c, h, w] if is_channels(c) => (h, w, c, Fit::ChannelsFirst),
        [h, w, c] if is_channels(c) => (h, w, c, Fit::Same),
        [None, h, w] => (h, w, Some(3), Fit::ChannelsFirst),
        [h, w] => (h, w, Some(1), Fit::Reshape(Vec::new())),
        [Some(pixels)] => match options.resize {
            Some(Resize { width, height }) if pixels == width as usize * height as usize => {
                (None, None, Some(1), Fit::Reshape(vec![pixels]))
            }
            _ => {
                return Err(refused(format!("input '{input}' takes {pixels} values, not images"))
                    .hint(
                        Hint::from("give the size of grey images that fill it with ")
                            .option_as("resize", "WxH"),
                    ));
            }
        },
        _ => {
            return Err(refused(format!(
                "input '{input}' takes no images of one or three channels"
            )));
        }
    };
    let side = |size: Option<usize>, resized: Option<u32>| match size {
        Some(size) => u32::try_from(size).ok().filter(|size| *size > 0),
        None => resized,
    };
    let (width, height) = side(width, options.resize.map(|size| size.width))
        .zip(side(height, options.resize.map(|size| size.height)))
        .ok_or_else(|| {
            refused(format!("input '{input}' leaves the size of images open"))
                .hint(Hint::from("give it with ").option_as("resize", "WxH"))
        })?;
    let resize = options.resize.unwrap_or(Resize { width, height });
    if resize.width < width || resize.height < height {
        return Err(refused(format!(
            "input '{input}' takes images of {width}x{height}, which cannot be cut out of {}x{}",
            resize.width, resize.height
        )));
    }
    let fit = match fit {
        Fit::Reshape(shape) if shape.is_empty() => {
            Fit::Reshape(vec![height as usize, width as usize])
        }
        fit => fit,
    };
    Ok((Frame { width, height, resize, grey: channels == Some(1) }, fit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    fn known(sizes: &[usize]) -> Vec<Option<usize>> {
        sizes.iter().copied().map(Some).collect()
    }

    fn resized(width: u32, height: u32) -> DataOptions {
        DataOptions { resize: Some(Resize { width, height }), ..Default::default() }
    }

    fn images(files: Vec<PathBuf>, wanted: &[Option<usize>], options: &DataOptions) -> Images {
        Images::new(files, "x", wanted, options).unwrap().0
    }

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
        assert!(error.to_string().contains("no PNG or JPEG images"), "{error}");
        fs::write(root.path().join("a.png"), b"").unwrap();
        assert_eq!(Listing::of(root.path()).unwrap().labels, None);
        fs::create_dir(root.path().join("cat")).unwrap();
        fs::write(root.path().join("cat/b.png"), b"").unwrap();
        let error = Listing::of(root.path()).unwrap_err();
        assert!(error.to_string().contains("both beside and inside"), "{error}");
        assert_eq!(Listing::of(Path::new("/not/there")).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn pixels_arrive_in_rows_with_their_channels_last() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.png");
        let picture = RgbImage::from_fn(3, 2, |x, y| Rgb([10 * x as u8, 10 * y as u8, 7]));
        picture.save(&file).unwrap();

        let colours = images(vec![file.clone()], &known(&[3, 2, 3]), &DataOptions::default());
        let HostArray::U8(bytes) = colours.rows(&[0, 0]).unwrap() else { panic!("not bytes") };
        assert_eq!(bytes.shape(), [2, 2, 3, 3]);
        assert_eq!([bytes[[1, 1, 2, 0]], bytes[[1, 1, 2, 1]], bytes[[1, 1, 2, 2]]], [20, 10, 7]);

        let grey = images(vec![file], &known(&[2, 3]), &DataOptions::default());
        assert_eq!(grey.rows(&[0]).unwrap().shape(), [1, 2, 3, 1]);
    }

    #[test]
    fn the_centre_is_cut_out_after_resizing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.png");
        // White in the middle third, so the centre of the resized image is white all over.
        let picture = GrayImage::from_fn(9, 9, |x, y| {
            Luma([if (3..6).contains(&x) && (3..6).contains(&y) { 255 } else { 0 }])
        });
        picture.save(&file).unwrap();
        let images = images(vec![file], &known(&[1, 2, 2]), &resized(18, 18));
        let HostArray::U8(bytes) = images.rows(&[0]).unwrap() else { panic!("not bytes") };
        assert!(bytes.iter().all(|byte| *byte == 255), "{bytes}");
    }

    #[test]
    fn the_input_decides_on_channels_and_size() {
        let plain = DataOptions::default();
        let cases = [
            (known(&[1, 4, 5]), &plain, (5, 4, true), Fit::ChannelsFirst),
            (known(&[3, 4, 5]), &plain, (5, 4, false), Fit::ChannelsFirst),
            (known(&[4, 5, 3]), &plain, (5, 4, false), Fit::Same),
            (known(&[4, 5]), &plain, (5, 4, true), Fit::Reshape(vec![4, 5])),
            (known(&[20]), &resized(5, 4), (5, 4, true), Fit::Reshape(vec![20])),
            (vec![Some(3), None, None], &resized(5, 4), (5, 4, false), Fit::ChannelsFirst),
            (vec![None, Some(4), Some(5)], &plain, (5, 4, false), Fit::ChannelsFirst),
        ];
        for (wanted, options, expected, expected_fit) in cases {
            let (frame, fit) = frame("x", &wanted, options).unwrap();
            assert_eq!((frame.width, frame.height, frame.grey), expected, "{wanted:?}");
            assert_eq!(fit, expected_fit);
        }
        for (wanted, options) in [
            (known(&[20]), &plain),
            (known(&[4, 4, 5]), &plain),
            (vec![Some(3), None, None], &plain),
            (known(&[1, 8, 8]), &resized(5, 8)),
            (vec![], &plain),
        ] {
            assert!(frame("x", &wanted, options).is_err(), "{wanted:?}");
        }
    }

    #[test]
    fn a_broken_image_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("broken.png");
        fs::write(&file, b"\x89PNG\r\n\x1a\n and nothing else").unwrap();
        let images = images(vec![file], &known(&[1, 4, 4]), &DataOptions::default());
        let error = images.rows(&[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Calibration);
        assert!(error.to_string().contains("broken.png is not a whole image"), "{error}");
    }
}
