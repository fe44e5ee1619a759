//! Pictures of one size, decoded when they are asked for.

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageReader, RgbImage};
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;

use super::fit::Fit;
use super::media::{AT_ONCE, Media};
use super::options::{DataOptions, PictureSteps, Resize, Sizing};
use super::resample::{Filter, resize};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::runtime::HostArray;

/// Pictures of one size.
#[derive(Debug)]
pub(super) struct Pictures {
    media: Arc<dyn Media>,
    frame: Frame,
}

/// The steps and the target of each picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Frame {
    width: u32,
    height: u32,
    steps: PictureSteps,
    grey: bool,
}

impl Pictures {
    /// Pictures for an input with samples of shape `wanted`, and the change of their axes.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if the input takes no pictures of one or three channels, or if their
    /// size is open.
    pub(super) fn new(
        media: Arc<dyn Media>,
        input: &str,
        wanted: &[Option<usize>],
        options: &DataOptions,
    ) -> Result<(Self, Fit)> {
        let (frame, fit) = frame(input, wanted, options)?;
        Ok((Pictures { media, frame }, fit))
    }

    pub(super) fn len(&self) -> usize {
        self.media.count()
    }

    /// Height, width and channels of each picture.
    pub(super) fn sample(&self) -> [usize; 3] {
        let Frame { width, height, grey, .. } = self.frame;
        [height as usize, width as usize, if grey { 1 } else { 3 }]
    }

    /// The pictures `rows`, as bytes of shape `[rows, height, width, channels]`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] naming a picture that cannot be decoded.
    pub(super) fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let [height, width, channels] = self.sample();
        let mut pixels = Vec::new();
        for some in rows.chunks(AT_ONCE) {
            let files = self.media.bytes(some)?;
            let decoded: Vec<Vec<u8>> = (some.par_iter().zip(&files))
                .map(|(row, file)| self.frame.decode(file, || self.media.name(*row)))
                .collect::<Result<_>>()?;
            decoded.iter().for_each(|own| pixels.extend_from_slice(own));
        }
        let shape = [pixels.len() / (height * width * channels), height, width, channels];
        ArrayD::from_shape_vec(IxDyn(&shape), pixels).map(HostArray::from).map_err(|error| {
            Error::new(ErrorKind::Calibration, "pictures differ in size").because(error)
        })
    }
}

impl Frame {
    fn decode(&self, file: &[u8], name: impl Fn() -> String) -> Result<Vec<u8>> {
        let undecodable = |error: image::ImageError| {
            Error::new(ErrorKind::Calibration, format!("{} is not a whole image", name()))
                .because(error)
        };
        let reader = ImageReader::new(Cursor::new(file)).with_guessed_format();
        let reader = reader.map_err(|error| undecodable(error.into()))?;
        let mut picture = self.resized(reader.decode().map_err(undecodable)?);
        let (width, height) = picture.dimensions();
        if (width, height) != (self.width, self.height) {
            let (name, own_width, own_height) = (name(), self.width, self.height);
            return Err(Error::new(
                ErrorKind::Calibration,
                format!(
                    "{name} becomes {width}x{height} by the preprocessing, but the input takes \
                     {own_width}x{own_height}"
                ),
            )
            .hint("crop to the input's size"));
        }
        if self.steps.swap {
            picture.pixels_mut().for_each(|pixel| pixel.0.reverse());
        }
        Ok(if self.grey { grey(&picture) } else { picture.into_raw() })
    }

    /// The picture in three channels, resized and cropped.
    fn resized(&self, picture: DynamicImage) -> RgbImage {
        let picture = picture.into_rgb8();
        let (width, height) = picture.dimensions();
        let size = match self.steps.sizing {
            Sizing::Same => Resize { width, height },
            Sizing::Exact(size) => size,
            Sizing::Shortest(side) => shortest(width, height, side),
        };
        let picture = resize(picture, size.width, size.height, self.steps.filter);
        match self.steps.crop {
            Some(crop) => cut(&picture, crop),
            None => picture,
        }
    }
}

/// The size at which the shorter side is `side`; the longer one is rounded down, as Hugging Face does.
fn shortest(width: u32, height: u32, side: u32) -> Resize {
    let (short, long) = (width.min(height).max(1), width.max(height));
    let longer = (f64::from(side) * f64::from(long) / f64::from(short)) as u32;
    // The longer side of a thin line would become huge.
    let longer = longer.clamp(1, super::options::MAX_SIDE);
    match width <= height {
        true => Resize { width: side, height: longer },
        false => Resize { width: longer, height: side },
    }
}

/// The centre, with a black border if the picture is too small.
fn cut(picture: &RgbImage, crop: Resize) -> RgbImage {
    let offset = |own: u32, wanted: u32| (i64::from(own) - i64::from(wanted)).div_euclid(2);
    let (left, top) = (offset(picture.width(), crop.width), offset(picture.height(), crop.height));
    RgbImage::from_fn(crop.width, crop.height, |x, y| {
        let place = |at: u32, by: i64| u32::try_from(i64::from(at) + by).ok();
        let pixel = place(x, left).zip(place(y, top));
        let pixel = pixel.and_then(|(x, y)| picture.get_pixel_checked(x, y));
        pixel.copied().unwrap_or(image::Rgb([0; 3]))
    })
}

/// Grey by the weights of Pillow.
fn grey(picture: &RgbImage) -> Vec<u8> {
    let weigh = |[r, g, b]: [u8; 3]| {
        let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000;
        (sum >> 16) as u8
    };
    picture.pixels().map(|pixel| weigh(pixel.0)).collect()
}

fn frame(input: &str, wanted: &[Option<usize>], options: &DataOptions) -> Result<(Frame, Fit)> {
    let refused = |message: String| Error::new(ErrorKind::Calibration, message);
    let given = options.picture_size();
    let is_channels = |size: Option<usize>| matches!(size, Some(1 | 3));
    let (height, width, channels, fit) = match *wanted {
        [c, h, w] if is_channels(c) => (h, w, c, Fit::ChannelsFirst),
        [h, w, c] if is_channels(c) => (h, w, c, Fit::Same),
        [None, h, w] => (h, w, Some(3), Fit::ChannelsFirst),
        [h, w] => (h, w, Some(1), Fit::Reshape(Vec::new())),
        [Some(pixels)] => match given {
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
    let (width, height) = side(width, given.map(|size| size.width))
        .zip(side(height, given.map(|size| size.height)))
        .ok_or_else(|| {
            refused(format!("input '{input}' leaves the size of images open"))
                .hint(Hint::from("give it with ").option_as("resize", "WxH"))
        })?;
    let steps = steps(input, Resize { width, height }, options)?;
    let fit = match fit {
        Fit::Reshape(shape) if shape.is_empty() => {
            Fit::Reshape(vec![height as usize, width as usize])
        }
        fit => fit,
    };
    Ok((Frame { width, height, steps, grey: channels == Some(1) }, fit))
}

/// The steps that lead to pictures of a size.
fn steps(input: &str, size: Resize, options: &DataOptions) -> Result<PictureSteps> {
    let Resize { width, height } = size;
    if let (Some(steps), None) = (options.picture, options.resize) {
        let known = options.picture_size().filter(|known| *known != size);
        return match known {
            None => Ok(steps),
            Some(known) => Err(Error::new(
                ErrorKind::Calibration,
                format!(
                    "input '{input}' takes images of {width}x{height}, but the preprocessing makes \
                     {}x{}",
                    known.width, known.height
                ),
            )),
        };
    }
    let resize = options.resize.unwrap_or(size);
    if resize.width < width || resize.height < height {
        return Err(Error::new(
            ErrorKind::Calibration,
            format!(
                "input '{input}' takes images of {width}x{height}, which cannot be cut out of {}x{}",
                resize.width, resize.height
            ),
        ));
    }
    let filter = options.picture.map_or(Filter::Bilinear, |steps| steps.filter);
    let swap = options.picture.is_some_and(|steps| steps.swap);
    Ok(PictureSteps { sizing: Sizing::Exact(resize), filter, crop: Some(size), swap })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use image::{GrayImage, Luma, Rgb};

    use super::super::media::Paths;
    use super::*;

    fn known(sizes: &[usize]) -> Vec<Option<usize>> {
        sizes.iter().copied().map(Some).collect()
    }

    fn resized(width: u32, height: u32) -> DataOptions {
        DataOptions { resize: Some(Resize { width, height }), ..Default::default() }
    }

    fn images(files: Vec<PathBuf>, wanted: &[Option<usize>], options: &DataOptions) -> Pictures {
        Pictures::new(Arc::new(Paths(files)), "x", wanted, options).unwrap().0
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
