//! Options of preparing stored samples for a model.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::resample::Filter;
use crate::error::{Error, ErrorKind, Result};

/// How to read a dataset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataOptions {
    /// Factor for every element, before `mean` and `std`.
    pub scale: Option<Scale>,
    /// Subtracted after scaling: one value, or one per channel; empty for none.
    pub mean: Vec<f32>,
    /// Divided by after `mean`: one value, or one per channel; empty for none.
    pub std: Vec<f32>,
    /// The place of the channels of stored images, if their shape is ambiguous.
    pub layout: Option<Layout>,
    /// The size to which images are resized before the centre is cropped to the model's size; `None` for
    /// the model's size.
    pub resize: Option<Resize>,
    /// Uses only the arrays named after this part of the data, e.g. `test` for `test_images` and
    /// `test_labels` (or `x_test` and `y_test`).
    pub split: Option<String>,
    /// Sizes of open dimensions of the model, by their symbol, or by `INPUT:AXIS` if they have none.
    pub dims: BTreeMap<String, usize>,
    /// For inputs and for `labels`, the name of the column, array or file that feeds them, if it
    /// differs.
    pub columns: BTreeMap<String, String>,
    /// Steps of preparing pictures, if a file defines them.
    pub picture: Option<PictureSteps>,
    /// Steps of preparing sounds.
    pub sound: SoundSteps,
    /// The number of rows of the table that an input indexes, by input; see [`super::tables`].
    pub tables: BTreeMap<String, usize>,
}

/// Steps of preparing a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PictureSteps {
    /// How it is sized.
    pub sizing: Sizing,
    /// The filter of resizing.
    pub filter: Filter,
    /// The size of the crop of its centre.
    pub crop: Option<Resize>,
    /// Whether red and blue are swapped.
    pub swap: bool,
}

/// How a picture is sized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sizing {
    /// It keeps its own.
    Same,
    /// It gets this width and height.
    Exact(Resize),
    /// Its shorter side gets this number of pixels; the longer one follows.
    Shortest(u32),
}

/// Steps of preparing a sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SoundSteps {
    /// The required sample rate, in samples per second.
    pub rate: Option<u32>,
    /// Whether it is normalised to mean 0 and variance 1.
    pub normalise: bool,
    /// Whether padding is excluded from mean and variance.
    pub masked: bool,
    /// The value that pads a short sound.
    pub padding: f32,
}

/// A factor, written as a number or a fraction (`1/255`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale(pub f32);

/// Order of the axes of stored images, after the sample axis N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Height, width, channels.
    Nhwc,
    /// Channels, height, width.
    Nchw,
}

/// The size of an image in pixels, written `WxH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl DataOptions {
    /// The final size of pictures, if the options define it.
    pub(super) fn picture_size(&self) -> Option<Resize> {
        let of_steps = |steps: PictureSteps| match (steps.crop, steps.sizing) {
            (Some(size), _) | (None, Sizing::Exact(size)) => Some(size),
            (None, Sizing::Same | Sizing::Shortest(_)) => None,
        };
        self.resize.or_else(|| self.picture.and_then(of_steps))
    }

    /// Whether values are changed at all.
    pub(super) fn normalises(&self) -> bool {
        self.scale.is_some() || !self.mean.is_empty() || !self.std.is_empty()
    }

    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a mean, deviation or scale that is not a usable number.
    pub fn validate(&self) -> Result<()> {
        if self.mean.iter().any(|v| !v.is_finite()) {
            return Err(usage("the mean has a value that is not a finite number"));
        }
        if self.std.iter().any(|v| !v.is_normal()) {
            return Err(usage("the standard deviation has a value that cannot be divided by"));
        }
        if self.scale.is_some_and(|scale| !scale.0.is_normal()) {
            return Err(usage("the scale is zero or not a finite number"));
        }
        Ok(())
    }
}

impl FromStr for Scale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| part.trim().parse::<f64>().ok();
        let value = match text.split_once('/') {
            Some((over, under)) => number(over).zip(number(under)).map(|(a, b)| a / b),
            None => number(text),
        };
        value
            .map(|v| v as f32)
            .filter(|v| v.is_normal())
            .map(Scale)
            .ok_or_else(|| usage(format!("'{text}' is no scale")).hint("write 0.5 or 1/255"))
    }
}

impl Layout {
    /// All layouts, with their names and explanations.
    pub const ALL: [(Layout, &'static str, &'static str); 2] = [
        (Layout::Nchw, "nchw", "channels, height, width"),
        (Layout::Nhwc, "nhwc", "height, width, channels"),
    ];
}

impl FromStr for Resize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let size = |part: &str| part.parse::<u32>().ok().filter(|n| (1..=MAX_SIDE).contains(n));
        text.split_once(['x', '×'])
            .and_then(|(width, height)| size(width).zip(size(height)))
            .map(|(width, height)| Resize { width, height })
            .ok_or_else(|| usage(format!("'{text}' is no image size")).hint("write 224x224"))
    }
}

/// Limit of a side: a larger size is a mistake, and would exhaust the memory.
pub(super) const MAX_SIDE: u32 = 1 << 15;

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_numbers_or_fractions() {
        assert_eq!("1/255".parse::<Scale>().unwrap(), Scale(1.0 / 255.0));
        assert_eq!("0.5".parse::<Scale>().unwrap(), Scale(0.5));
        assert_eq!("-2 / 4".parse::<Scale>().unwrap(), Scale(-0.5));
        for text in ["", "1/0", "0", "a/2", "1/2/3", "inf", "nan", "1e99"] {
            assert_eq!(text.parse::<Scale>().unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!("32x16".parse::<Resize>().unwrap(), Resize { width: 32, height: 16 });
        for text in ["32", "0x3", "axb", "3x-1", "99999999x2"] {
            assert_eq!(text.parse::<Resize>().unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn numbers_that_would_spoil_the_data_are_refused() {
        let with_std = |std| DataOptions { std, ..Default::default() };
        assert!(with_std(vec![0.2, 0.3]).validate().is_ok());
        assert!(with_std(vec![0.2, 0.0]).validate().is_err());
        let with_mean = |mean| DataOptions { mean, ..Default::default() };
        assert!(with_mean(vec![0.0]).validate().is_ok());
        assert!(with_mean(vec![f32::NAN]).validate().is_err());
    }
}
