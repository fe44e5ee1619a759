//! Calibration and test data named on the command line.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::models::Loaded;
use crate::calib::data::{DataOptions, Dataset, Extents, Layout, Resize, Scale, trials};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::report::DataRecord;
use crate::runtime::{Backend, ModelSource, Port, feeds, fixed_batch};

/// Samples that are made up where there is no data.
pub(super) const SYNTHETIC_SAMPLES: usize = 2048;

/// Where samples come from and how they are prepared.
#[derive(Args)]
#[command(next_help_heading = "Data")]
pub(super) struct DataArgs {
    /// Samples: a .npz or .npy file, or a folder of images
    ///
    /// Give it once for all models, or once per model in the models' order. A .npz holds one array per
    /// model input, under the input's name (a single array serves a single input), and perhaps
    /// `labels`. A folder of images holds one sub-folder per class. Samples need no labels; with
    /// labels, errors are reported. Without data, samples are made up from random numbers, which
    /// costs accuracy. Example: --data mnist.npz --data fashion.npz
    #[arg(short, long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Multiply every element by this number or fraction, e.g. 1/255
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    scale: Option<Scale>,
    /// Subtract this after scaling: one value, or one per channel, e.g. 0.485,0.456,0.406
    #[arg(long, value_name = "V,…", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Vec<f32>,
    /// Divide by this after --mean: one value, or one per channel, e.g. 0.229,0.224,0.225
    #[arg(long, value_name = "V,…", value_delimiter = ',')]
    std: Vec<f32>,
    /// Resize images of a folder to this, then cut the centre out to the model's size, e.g. 256x256
    /// [default: the model's size]
    #[arg(long, value_name = "WxH")]
    resize: Option<Resize>,
    /// Where the channels of stored images are, where their shape does not tell: nchw or nhwc
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Use only the arrays of this part of the file, e.g. test for test_images and test_labels
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    /// Size of an open dimension, by its name or as INPUT:AXIS; repeatable, e.g. height=224
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension)]
    dims: Vec<(String, usize)>,
}

/// A net that wants samples.
pub(super) struct Net<'a> {
    pub(super) name: &'a str,
    pub(super) ports: &'a [Port],
    /// Which of the files on the command line it is from.
    pub(super) file: usize,
    /// The net itself, to try sizes with where it leaves some open.
    pub(super) source: Option<ModelSource<'a>>,
}

/// What open sizes are tried with.
#[derive(Clone, Copy)]
pub(super) struct Tried<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) console: &'a Console,
}

/// Samples for one model.
pub(super) struct TaskData {
    pub(super) dataset: Dataset,
    /// The samples of the same source that were not drawn.
    pub(super) rest: Dataset,
    pub(super) record: DataRecord,
}

/// Samples that tell an error well enough.
const TELLING: usize = 200;

impl TaskData {
    /// Samples to measure errors on: those that were not drawn, unless they are too few.
    pub(super) fn to_measure(&self, limit: usize) -> Dataset {
        match self.rest.len() < TELLING {
            true => self.dataset.take(limit),
            false => self.rest.take(limit),
        }
    }
}

impl DataArgs {
    /// Whether samples have to be made up.
    pub(super) fn is_synthetic(&self) -> bool {
        self.data.is_empty()
    }

    /// Whether all models see the same samples.
    pub(super) fn is_common(&self) -> bool {
        self.data.len() == 1
    }

    /// Opens samples for each model: at most `limit`, drawn with `seed` where there are more.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a number of files that fits neither once nor per model; as
    /// [`Dataset::open`], naming the model.
    pub(super) fn open(
        &self,
        models: &[Loaded],
        limit: usize,
        seed: u64,
        trial: Tried<'_>,
    ) -> Result<Vec<TaskData>> {
        let nets: Vec<Net<'_>> = models
            .iter()
            .map(|m| Net {
                name: &m.name,
                ports: &m.ports,
                file: m.file(),
                source: Some(m.source()),
            })
            .collect();
        self.open_nets(&nets, limit, seed, Some(trial))
    }

    /// [`Self::open`] for nets that are not loaded from files.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_nets(
        &self,
        nets: &[Net<'_>],
        limit: usize,
        seed: u64,
        trial: Option<Tried<'_>>,
    ) -> Result<Vec<TaskData>> {
        let given = self.data.len();
        let files = nets.iter().map(|net| net.file).max().map_or(0, |last| last + 1);
        if given > 1 && given != nets.len() && given != files {
            let message = format!("--data was given {given} times for {} models", nets.len());
            return Err(Error::new(ErrorKind::Usage, message)
                .hint("give it once, or once per model in the models' order"));
        }
        // A joint model's data serves all its tasks.
        let place = |i: usize, net: &Net<'_>| if given == nets.len() { i } else { net.file };
        let mut options = self.options();
        options.validate()?;
        let mut sizes = None;
        if let Some(trial) = trial.filter(|_| self.is_synthetic()) {
            let found = settled(nets, &options, seed, trial)?;
            sizes = (!found.is_empty()).then(|| taken(&found));
            options.dims.extend(found);
        }
        if let (Some(trial), Some(sizes)) = (trial, &sizes) {
            trial.console.note(sizes);
        }
        let open = |(i, net): (usize, &Net<'_>)| {
            let path = self.data.get(place(i, net)).or(self.data.first());
            let opened = match path {
                Some(path) => Dataset::open(path, net.ports, &options),
                None => {
                    let len = SYNTHETIC_SAMPLES.min(limit);
                    Dataset::synthetic(net.ports, len, seed, &options)
                }
            };
            let opened = opened.in_model(net.name)?;
            let available = opened.len();
            let (dataset, rest) = opened.split(limit, seed);
            let record = DataRecord {
                source: path.map(|p| p.display().to_string()),
                samples: dataset.len(),
                available,
                labels: dataset.has_labels(),
                notes: dataset.notes().iter().chain(&sizes).cloned().collect(),
            };
            Ok(TaskData { dataset, rest, record })
        };
        nets.iter().enumerate().map(open).collect()
    }

    fn options(&self) -> DataOptions {
        DataOptions {
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            layout: self.layout,
            resize: self.resize,
            split: self.part.clone(),
            dims: self.dims.iter().cloned().collect(),
        }
    }
}

/// Sizes for the extents that nets leave open: the first at which all of them run. None where nothing is
/// open, or where nothing that is tried serves; the error that names the open extent comes later.
///
/// # Errors
/// As [`Backend::load`]; [`ErrorKind::Interrupted`] where the user stops it.
fn settled(
    nets: &[Net<'_>],
    options: &DataOptions,
    seed: u64,
    trial: Tried<'_>,
) -> Result<Extents> {
    let ports: Vec<&[Port]> = nets.iter().map(|net| net.ports).collect();
    let candidates = trials(&ports, &options.dims);
    if candidates.is_empty() {
        return Ok(Extents::new());
    }
    let mut sessions = Vec::new();
    for net in nets {
        let Some(source) = net.source else { return Ok(Extents::new()) };
        sessions.push(trial.backend.load(source).in_model(net.name)?);
    }
    for extents in candidates {
        trial.console.check()?;
        let mut tried = options.clone();
        tried.dims.extend(extents.clone());
        let runs = nets.iter().zip(&mut sessions).all(|(net, session)| {
            let samples = fixed_batch(net.ports).unwrap_or(1);
            let data = Dataset::synthetic(net.ports, samples, seed, &tried);
            let batch = data.and_then(|data| data.batch(0..samples));
            batch.and_then(|batch| session.run(&feeds(&batch))).is_ok()
        });
        if runs {
            return Ok(extents);
        }
    }
    Ok(Extents::new())
}

/// A remark about sizes that were found by trial.
fn taken(extents: &Extents) -> String {
    let sizes: Vec<String> = extents.iter().map(|(key, n)| format!("{key} = {n}")).collect();
    let sizes = sizes.join(", ");
    format!("the models leave sizes open, and these were taken: {sizes}; --dim takes others")
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, size)| {
        let size = size.parse().ok().filter(|n| *n > 0)?;
        (!name.is_empty()).then(|| (name.to_owned(), size))
    });
    parsed.ok_or_else(|| "write NAME=SIZE, e.g. height=224".to_owned())
}

#[cfg(test)]
mod tests {
    use super::dimension;

    #[test]
    fn dimensions_have_a_name_and_a_size() {
        assert_eq!(dimension("image:2=224"), Ok(("image:2".to_owned(), 224)));
        for text in ["224", "h=", "=3", "h=0", "h=-1", "h=x"] {
            assert!(dimension(text).is_err(), "{text}");
        }
    }
}
