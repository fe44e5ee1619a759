//! Statistics of a net in files, so that calibration need not be repeated and can be done in shards.
//!
//! A file is a safetensors container with arrays called `<layer>.<part>`; `Part` lists the parts. The
//! rest is JSON under `onnx-zip` in its metadata.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::io;
use std::path::Path;

use ndarray::{Array, Array3, ArrayD, ArrayView2, Axis, Dimension};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize_to_file};
use serde::{Deserialize, Serialize};

use super::container;
use super::gram::Moments;
use super::net::{LayerInputs, NetStatistics, Spread};
use super::sensitivity::Sensitivity;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::staging::{Stage, unwritable};

/// Key of our entry in the container's metadata.
const KEY: &str = "onnx-zip";

/// Version of the files.
const VERSION: u32 = 2;

/// The oldest version that can be read. It has [`Part::Rows`] only.
const OLDEST: u32 = 1;

/// The origin of statistics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// SHA-256 of the model's file, and of its external data if there is any, in hexadecimal digits.
    pub model_sha256: String,
    /// Samples that were run.
    pub samples: u64,
    /// Files that the samples came from.
    pub sources: Vec<String>,
    /// A digest of the first samples of each part: equal ones tell that two nets saw the same samples.
    #[serde(default)]
    pub fingerprints: Vec<String>,
    /// How `BatchNormalization` was treated, if the model has any.
    #[serde(default)]
    pub batchnorm: Option<String>,
    /// Samples that sensitivities come from.
    #[serde(default)]
    pub sensitivity_samples: u64,
    /// The reason why there are no sensitivities.
    #[serde(default)]
    pub without_sensitivity: Option<String>,
}

/// The contents of the metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    meta: Meta,
    /// Rows per layer.
    rows: BTreeMap<String, u64>,
    /// [`Sensitivity::coherence`] per layer.
    #[serde(default)]
    coherence: BTreeMap<String, f64>,
}

/// A part of a layer's statistics.
#[derive(Clone, Copy)]
enum Part {
    /// Σ x xᵀ over rows, the upper triangle; and the same over means.
    Rows,
    Means,
    /// As before, per channel of a depthwise layer.
    Channels,
    ChannelMeans,
    /// How often each row of a table is picked.
    Counts,
    /// [`Sensitivity::channels`] and [`Sensitivity::metric`].
    Sensitivity,
    Metric,
}

impl Part {
    /// The name of a layer's array.
    fn of(self, layer: &str) -> String {
        let part = match self {
            Part::Rows => "upper",
            Part::Means => "means",
            Part::Channels => "channels",
            Part::ChannelMeans => "channel_means",
            Part::Counts => "counts",
            Part::Sensitivity => "sensitivity",
            Part::Metric => "metric",
        };
        format!("{layer}.{part}")
    }
}

/// Saves statistics; an existing file is replaced when the new one is complete. `progress` may cancel
/// waiting for the reader of a pipe.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be written, [`ErrorKind::Interrupted`] when stopped.
pub fn save(
    path: &Path,
    statistics: &NetStatistics,
    meta: &Meta,
    progress: &dyn Progress,
) -> Result<()> {
    let NetStatistics { layers, sensitivities } = statistics;
    let rows = layers.iter().map(|(layer, inputs)| (layer.clone(), inputs.count())).collect();
    let coherence = sensitivities.iter().map(|(layer, own)| (layer.clone(), own.coherence));
    let header =
        Header { version: VERSION, meta: meta.clone(), rows, coherence: coherence.collect() };
    let header = serde_json::to_string(&header).map_err(|e| unwritable(path, e.into()))?;
    let mut arrays = Vec::new();
    for (layer, inputs) in layers {
        arrays.extend(parts(inputs).map(|(part, array)| (part.of(layer), Stored(array))));
    }
    for (layer, own) in sensitivities {
        let channels = own.channels.clone().into_dyn();
        arrays.push((Part::Sensitivity.of(layer), Stored(channels.into())));
        if let Some(metric) = &own.metric {
            arrays.push((Part::Metric.of(layer), Stored(metric.view().into_dyn().into())));
        }
    }
    let metadata = Some(HashMap::from([(KEY.to_owned(), header)]));
    let mut stage = Stage::new(progress);
    let write = |at: &Path| serialize_to_file(arrays, metadata, at).map_err(io::Error::other);
    stage.write_by_path(path, write)?;
    stage.commit().map(drop)
}

/// The arrays of a layer's inputs.
fn parts(inputs: &LayerInputs) -> impl Iterator<Item = (Part, CowArrayD<'_>)> {
    let (first, second) = match inputs {
        LayerInputs::Rows(spread) => {
            let (rows, means) = spread.parts();
            let means = means.map(|means| (Part::Means, means.upper().into_dyn().into()));
            ((Part::Rows, rows.upper().into_dyn().into()), means)
        }
        LayerInputs::Channels(all) => {
            let means: Option<Vec<ArrayView2<'_, f64>>> =
                all.iter().map(|spread| Some(spread.parts().1?.upper())).collect();
            let rows: Vec<ArrayView2<'_, f64>> =
                all.iter().map(|spread| spread.parts().0.upper()).collect();
            let means = means.map(|means| (Part::ChannelMeans, stacked(&means)));
            ((Part::Channels, stacked(&rows)), means)
        }
        LayerInputs::Counts(counts) => ((Part::Counts, counts.view().into_dyn().into()), None),
    };
    std::iter::once(first).chain(second)
}

/// An array of any rank, owned or not.
type CowArrayD<'a> = ndarray::CowArray<'a, f64, ndarray::IxDyn>;

/// Matrices one after the other. They have the same size.
fn stacked(all: &[ArrayView2<'_, f64>]) -> CowArrayD<'static> {
    let size = all.first().map_or(0, |one| one.nrows());
    let mut stack = Array3::zeros((all.len(), size, size));
    for (mut place, one) in stack.axis_iter_mut(Axis(0)).zip(all) {
        place.assign(one);
    }
    stack.into_dyn().into()
}

/// Loads what [`save`] has written.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::Format`] if it is not such a file or
/// damaged.
pub fn load(path: &Path) -> Result<(NetStatistics, Meta)> {
    let read = container::read(path).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => foreign(e),
        _ => Error::new(ErrorKind::Io, "cannot read the statistics").because(e),
    });
    let bytes = read.in_model(path.display())?;
    parse(&bytes).in_model(path.display())
}

/// Adds up the statistics of shards of the data.
///
/// # Errors
/// [`ErrorKind::Calibration`] if they belong to different models or layers, or if there are none.
pub fn merge(shards: Vec<(NetStatistics, Meta)>) -> Result<(NetStatistics, Meta)> {
    let mut shards = shards.into_iter();
    let (mut sum, mut meta) = shards
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Calibration, "there are no statistics"))?;
    for (statistics, other) in shards {
        if other.model_sha256 != meta.model_sha256 || other.batchnorm != meta.batchnorm {
            return Err(Error::new(
                ErrorKind::Calibration,
                "the statistics are of different models",
            )
            .hint("add up statistics of one model only"));
        }
        sum.merge(statistics, (meta.sensitivity_samples, other.sensitivity_samples))?;
        meta.samples = meta.samples.saturating_add(other.samples);
        meta.sensitivity_samples =
            meta.sensitivity_samples.saturating_add(other.sensitivity_samples);
        meta.sources.extend(other.sources);
        meta.fingerprints.extend(other.fingerprints);
        meta.without_sensitivity = meta.without_sensitivity.or(other.without_sensitivity);
    }
    Ok((sum, meta))
}

/// An array on its way into a file.
struct Stored<'a>(CowArrayD<'a>);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F64
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        self.0.len() * size_of::<f64>()
    }
}

fn parse(bytes: &[u8]) -> Result<(NetStatistics, Meta)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| {
        Error::new(ErrorKind::Format, "the file holds no statistics of this program")
            .hint("give a file that `onnx-zip calibrate` wrote")
    })?;
    let header: Header = serde_json::from_str(header).map_err(foreign)?;
    if !(OLDEST..=VERSION).contains(&header.version) {
        let message = format!("the statistics have version {}, not {VERSION}", header.version);
        return Err(Error::new(ErrorKind::Format, message).hint("calibrate again"));
    }
    let file = Arrays(SafeTensors::deserialize(bytes).map_err(foreign)?);
    let mut statistics = NetStatistics::default();
    for (layer, rows) in &header.rows {
        let inputs = file.inputs(layer, *rows).at_node(layer)?;
        statistics.layers.insert(layer.clone(), inputs);
        let Some(channels) = file.get(Part::Sensitivity, layer)? else { continue };
        let metric = file.get(Part::Metric, layer)?;
        let coherence = header.coherence.get(layer).copied().unwrap_or(1.0);
        let own = Sensitivity { channels, metric, coherence };
        if !own.is_sound() {
            return Err(inconsistent().at_node(layer));
        }
        statistics.sensitivities.insert(layer.clone(), own);
    }
    Ok((statistics, header.meta))
}

/// The arrays of a file.
struct Arrays<'a>(SafeTensors<'a>);

impl Arrays<'_> {
    /// A part of a layer's statistics, if the file has it.
    fn get<D: Dimension>(&self, part: Part, layer: &str) -> Result<Option<Array<f64, D>>> {
        self.0.tensor(&part.of(layer)).ok().map(array).transpose()
    }

    fn inputs(&self, layer: &str, rows: u64) -> Result<LayerInputs> {
        let mean = |upper| Moments::from_parts(upper, None, 0);
        if let Some(upper) = self.get(Part::Rows, layer)? {
            let means = self.get(Part::Means, layer)?.map(mean).transpose()?;
            return spread(Moments::from_parts(upper, None, rows)?, means).map(LayerInputs::from);
        }
        if let Some(counts) = self.get::<ndarray::Ix1>(Part::Counts, layer)? {
            let sound = counts.iter().all(|count| count.is_finite() && *count >= 0.0);
            return if sound { Ok(LayerInputs::Counts(counts)) } else { Err(inconsistent()) };
        }
        let channels: Array3<f64> = self.get(Part::Channels, layer)?.ok_or_else(inconsistent)?;
        let means: Option<Array3<f64>> = self.get(Part::ChannelMeans, layer)?;
        if means.as_ref().is_some_and(|means| means.dim() != channels.dim()) {
            return Err(inconsistent());
        }
        let channel = |(at, upper): (usize, ArrayView2<'_, f64>)| {
            let own = means.as_ref().map(|means| means.index_axis(Axis(0), at).to_owned());
            let means = own.map(mean).transpose()?;
            spread(Moments::from_parts(upper.to_owned(), None, rows)?, means)
        };
        let all = channels.axis_iter(Axis(0)).enumerate().map(channel);
        Ok(LayerInputs::Channels(all.collect::<Result<_>>()?))
    }
}

/// Moments of rows and of their means, if these are of one layer.
fn spread(rows: Moments, means: Option<Moments>) -> Result<Spread> {
    match means.as_ref().is_none_or(|means| means.inputs() == rows.inputs()) {
        true => Ok(Spread::new(rows, means)),
        false => Err(inconsistent()),
    }
}

fn inconsistent() -> Error {
    Error::new(ErrorKind::Format, "stored statistics are inconsistent").hint("calibrate again")
}

fn foreign(cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Format, "this is no file of statistics, or a damaged one")
        .because(cause)
        .hint("give a file that `onnx-zip calibrate` wrote")
}

fn array<D: Dimension>(tensor: safetensors::tensor::TensorView<'_>) -> Result<Array<f64, D>> {
    let wrong = || {
        Error::new(ErrorKind::Format, "the statistics hold an array of another kind")
            .hint("calibrate again")
    };
    if tensor.dtype() != Dtype::F64 {
        return Err(wrong());
    }
    let (elements, _) = tensor.data().as_chunks();
    let values = elements.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let array = ArrayD::from_shape_vec(tensor.shape(), values).map_err(|_| wrong())?;
    array.into_dimensionality().map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
