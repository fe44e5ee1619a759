//! How samples are prepared.

use std::collections::BTreeMap;

#[cfg(feature = "cli")]
use super::parse;
use crate::calib::data::{DataOptions, Layout, Resize, Scale};

/// How to convert stored samples into model inputs.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Data"))]
#[non_exhaustive]
pub struct SampleOptions {
    /// Multiply every element by this number or fraction, e.g. 1/255
    #[cfg_attr(feature = "cli", arg(long, value_name = "F", allow_hyphen_values = true))]
    pub scale: Option<Scale>,
    /// Subtract this after scaling: one value, or one per channel, e.g. 0.485,0.456,0.406
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "V,…", value_delimiter = ',', allow_hyphen_values = true)
    )]
    pub mean: Vec<f32>,
    /// Divide by this after --mean: one value, or one per channel, e.g. 0.229,0.224,0.225
    #[cfg_attr(feature = "cli", arg(long, value_name = "V,…", value_delimiter = ','))]
    pub std: Vec<f32>,
    /// Resize images of a folder to this, then crop the centre to the model's size, e.g. 256x256
    /// [default: the model's size]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WxH"))]
    pub resize: Option<Resize>,
    /// Channel order of stored images, if their shape is ambiguous: nchw or nhwc
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYOUT"))]
    pub layout: Option<Layout>,
    /// Use only the arrays of this part of the file, e.g. test for test_images and test_labels
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub part: Option<String>,
    /// Size of an open dimension, by its name or as INPUT:AXIS; repeatable, e.g. height=224
    #[cfg_attr(feature = "cli", arg(
        long = "dim", value_name = "NAME=SIZE", value_parser = parse::dimension))]
    pub dim: Vec<(String, usize)>,
}

impl SampleOptions {
    /// Options for the data readers.
    pub(crate) fn reading(&self) -> DataOptions {
        DataOptions {
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            layout: self.layout,
            resize: self.resize,
            split: self.part.clone(),
            dims: self.dim.iter().cloned().collect(),
            tables: BTreeMap::new(),
        }
    }
}
