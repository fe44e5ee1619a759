//! How samples are prepared.

use std::collections::BTreeMap;
use std::path::PathBuf;

#[cfg(feature = "cli")]
use super::parse::{self, choices};
use crate::calib::data::{DataOptions, Layout, Resize, Scale, SoundSteps};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::counted;

/// How to convert stored samples into model inputs.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Data"))]
#[non_exhaustive]
pub struct SampleOptions {
    /// Prepare samples as this preprocessor_config.json of Hugging Face says, once for all models or once
    /// per model; other options come before what it says
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub preprocess: Vec<PathBuf>,
    /// Take an input, or labels, from the column, array or file of this name, e.g. labels=fine_label;
    /// repeatable
    #[cfg_attr(feature = "cli", arg(
        long = "column", value_name = "INPUT=NAME", value_parser = parse::column))]
    pub column: Vec<(String, String)>,
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
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "V,…", value_delimiter = ',', allow_hyphen_values = true)
    )]
    pub std: Vec<f32>,
    /// Resize images to this, then crop the centre to the model's size, e.g. 256x256
    /// [default: the model's size]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WxH"))]
    pub resize: Option<Resize>,
    /// Channel order of stored images, if their shape is ambiguous
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "LAYOUT", ignore_case = true,
        value_parser = choices(Layout::ALL.map(|(layout, name, help)| (name, layout, help)))))]
    pub layout: Option<Layout>,
    /// Use only this part of the data, e.g. test for the arrays test_images and test_labels, or for files
    /// called test-00000.parquet
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub part: Option<String>,
    /// Size of an open dimension, by its name or as INPUT:AXIS; repeatable, e.g. height=224
    #[cfg_attr(feature = "cli", arg(
        long = "dim", value_name = "NAME=SIZE", value_parser = parse::dimension))]
    pub dim: Vec<(String, usize)>,
}

impl SampleOptions {
    /// The options of the data readers, for the model at `place` of the given ones.
    ///
    /// # Errors
    /// As [`DataOptions::preprocess`].
    pub(crate) fn reading(&self, place: usize) -> Result<DataOptions> {
        let mut options = DataOptions {
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            layout: self.layout,
            resize: self.resize,
            split: self.part.clone(),
            dims: self.dim.iter().cloned().collect(),
            columns: self.column.iter().cloned().collect(),
            picture: None,
            sound: SoundSteps::default(),
            tables: BTreeMap::new(),
        };
        if let Some(file) = self.preprocess.get(place).or(self.preprocess.first()) {
            options.preprocess(file)?;
        }
        options.validate()?;
        Ok(options)
    }

    /// Checks that files of preprocessing are given once, or once per model.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where they are not.
    pub(crate) fn check_count(&self, models: usize) -> Result<()> {
        let given = self.preprocess.len();
        if given <= 1 || given == models {
            return Ok(());
        }
        let (times, models) = (counted(given, "time"), counted(models, "model"));
        let message = format!("preprocessing was given {times} for {models}");
        let hint = Hint::from("give ").option("preprocess");
        Err(Error::new(ErrorKind::Usage, message)
            .hint(hint.then(" once, or once per model in the models' order")))
    }
}
