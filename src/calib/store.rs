//! Moments in files, so that calibration need not be repeated and can be done in shards.
//!
//! A file is a safetensors container with `<layer>.upper` per layer and, if there are targets,
//! `<layer>.cross` and `<layer>.squares`. The rest is JSON under `onnx-zip` in its metadata.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::io;
use std::path::Path;

use ndarray::{Array1, Array2, ArrayD, ArrayViewD, Dimension};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize_to_file};
use serde::{Deserialize, Serialize};

use super::container;
use super::gram::Moments;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::staging::Stage;

/// Key of our entry in the container's metadata.
const KEY: &str = "onnx-zip";

/// Version of the files.
const VERSION: u32 = 1;

/// The origin of moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// SHA-256 of the model's file, in hexadecimal digits.
    pub model_sha256: String,
    /// Samples that were run.
    pub samples: u64,
    /// Files that the samples came from.
    pub sources: Vec<String>,
}

/// Moments of a net's layer inputs, by layer.
pub type LayerMoments = BTreeMap<String, Moments>;

/// The contents of the metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    meta: Meta,
    /// Rows per layer.
    rows: BTreeMap<String, u64>,
}

/// Saves moments; an existing file is replaced when the new one is complete. `progress` may cancel
/// waiting for the reader of a pipe.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be written, [`ErrorKind::Interrupted`] when stopped.
pub fn save(
    path: &Path,
    moments: &LayerMoments,
    meta: &Meta,
    progress: &dyn Progress,
) -> Result<()> {
    let failed = |cause: Box<dyn StdError + Send + Sync>| {
        Error::new(ErrorKind::Io, format!("cannot write '{}'", path.display())).because(cause)
    };
    let rows = moments.iter().map(|(layer, m)| (layer.clone(), m.count())).collect();
    let header = serde_json::to_string(&Header { version: VERSION, meta: meta.clone(), rows })
        .map_err(|e| failed(e.into()))?;
    let mut tensors = Vec::new();
    for (layer, moments) in moments {
        tensors.push((format!("{layer}.upper"), Stored(moments.upper().into_dyn())));
        if let (Some(cross), Some(squares)) = (moments.cross(), moments.target_squares()) {
            tensors.push((format!("{layer}.cross"), Stored(cross.into_dyn())));
            tensors.push((format!("{layer}.squares"), Stored(squares.into_dyn())));
        }
    }
    let metadata = Some(HashMap::from([(KEY.to_owned(), header)]));
    let mut stage = Stage::new(progress);
    let write = |at: &Path| serialize_to_file(tensors, metadata, at).map_err(io::Error::other);
    stage.write_by_path(path, write)?;
    stage.commit().map(drop)
}

/// Loads what [`save`] has written.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::Format`] if it is not such a file or
/// damaged.
pub fn load(path: &Path) -> Result<(LayerMoments, Meta)> {
    let read = container::read(path).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => foreign(e),
        _ => Error::new(ErrorKind::Io, "cannot read the statistics").because(e),
    });
    let bytes = read.in_model(path.display())?;
    parse(&bytes).in_model(path.display())
}

/// Adds up the moments of shards of the data.
///
/// # Errors
/// [`ErrorKind::Calibration`] if they belong to different models or layers, or if there are none.
pub fn merge(shards: Vec<(LayerMoments, Meta)>) -> Result<(LayerMoments, Meta)> {
    let unlike = |what: &str| {
        Error::new(ErrorKind::Calibration, format!("the statistics are of different {what}"))
            .hint("add up statistics of one model only")
    };
    let mut shards = shards.into_iter();
    let (mut sum, mut meta) = shards
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Calibration, "there are no statistics"))?;
    for (moments, other) in shards {
        if other.model_sha256 != meta.model_sha256 {
            return Err(unlike("models"));
        }
        if !moments.keys().eq(sum.keys()) {
            return Err(unlike("layers"));
        }
        for ((layer, sum), moments) in sum.iter_mut().zip(moments.values()) {
            sum.merge(moments).at_node(layer)?;
        }
        meta.samples = meta.samples.saturating_add(other.samples);
        meta.sources.extend(other.sources);
    }
    Ok((sum, meta))
}

/// An array on its way into a file.
struct Stored<'a>(ArrayViewD<'a, f64>);

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

fn parse(bytes: &[u8]) -> Result<(LayerMoments, Meta)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| {
        Error::new(ErrorKind::Format, "the file holds no statistics of this program")
            .hint("give a file that `onnx-zip calibrate` wrote")
    })?;
    let header: Header = serde_json::from_str(header).map_err(foreign)?;
    if header.version != VERSION {
        let message = format!("the statistics have version {}, not {VERSION}", header.version);
        return Err(Error::new(ErrorKind::Format, message).hint("calibrate again"));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(foreign)?;
    let mut moments = BTreeMap::new();
    for (layer, rows) in header.rows {
        let part = |name: &str| tensors.tensor(&format!("{layer}.{name}"));
        let upper: Array2<f64> = array(part("upper").map_err(foreign)?)?;
        let targets = match (part("cross"), part("squares")) {
            (Ok(cross), Ok(squares)) => Some((array::<_>(cross)?, array::<_>(squares)?)),
            _ => None,
        };
        let targets: Option<(Array2<f64>, Array1<f64>)> = targets;
        let loaded = Moments::from_parts(upper, targets, rows).at_node(&layer)?;
        moments.insert(layer, loaded);
    }
    Ok((moments, header.meta))
}

fn foreign(cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Format, "this is no file of statistics, or a damaged one")
        .because(cause)
        .hint("give a file that `onnx-zip calibrate` wrote")
}

fn array<D: Dimension>(
    tensor: safetensors::tensor::TensorView<'_>,
) -> Result<ndarray::Array<f64, D>> {
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
mod tests {
    use std::fs;

    use ndarray::array;

    use super::*;
    use crate::progress::Silent;

    fn moments(first: f32) -> LayerMoments {
        let mut plain = Moments::new(2);
        plain.push(array![[first, 2.0], [3.0, 4.0]].view()).unwrap();
        let mut targeted = Moments::with_targets(1, 2);
        targeted.push_with(array![[first]].view(), array![[0.5, 1.0]].view()).unwrap();
        [("fc1".to_owned(), plain), ("a.upper".to_owned(), targeted)].into()
    }

    fn meta(sha256: &str) -> Meta {
        let (model_sha256, sources) = (sha256.to_owned(), vec!["x.npz".to_owned()]);
        Meta { model_sha256, samples: 2, sources }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gram");
        save(&path, &moments(1.0), &meta("ab"), &Silent).unwrap();
        assert_eq!(load(&path).unwrap(), (moments(1.0), meta("ab")));
        let bytes = fs::read(&path).unwrap();
        save(&path, &moments(1.0), &meta("ab"), &Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn shards_add_up() {
        let (sum, added) =
            merge(vec![(moments(1.0), meta("ab")), (moments(5.0), meta("ab"))]).unwrap();
        let mut expected = moments(1.0);
        for (layer, moments) in moments(5.0) {
            expected.get_mut(&layer).unwrap().merge(&moments).unwrap();
        }
        assert_eq!((sum, added.samples), (expected, 4));
    }

    #[test]
    fn shards_of_different_models_do_not() {
        let other = merge(vec![(moments(1.0), meta("ab")), (moments(1.0), meta("cd"))]);
        assert_eq!(other.unwrap_err().kind(), ErrorKind::Calibration);
        assert!(merge(Vec::new()).is_err());
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gram");
        save(&path, &moments(1.0), &meta("ab"), &Silent).unwrap();
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..0], &bytes[..bytes.len() - 1], &bytes[8..], b"no statistics"] {
            assert_eq!(parse(damaged).unwrap_err().kind(), ErrorKind::Format);
        }
        // A number that is not finite.
        let mut poisoned = bytes;
        let end = poisoned.len();
        poisoned[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(parse(&poisoned).is_err());
    }
}
