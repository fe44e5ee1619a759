//! Parts of a data set for other processes.
//!
//! Samples in a file stay there: the other process opens the file and reads its rows. Samples in memory
//! are sent as stored.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bytes::{decoded, encoded};
use super::{Arrays, DataOptions, Dataset};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{DataType, Dim};
use crate::runtime::{HostArray, Port};

/// The source of a data set, and the options of reading it.
#[derive(Debug)]
pub(super) struct Origin {
    place: Place,
    ports: Vec<Port>,
    options: DataOptions,
}

/// The place of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Place {
    /// In a file or folder.
    Path(PathBuf),
    /// In this process.
    Memory,
    /// None: they are random numbers.
    Synthetic { len: usize, seed: u64 },
}

impl Place {
    /// A file or folder, by its absolute path, since other processes may run in another folder.
    pub(super) fn of_path(path: &Path) -> Place {
        Place::Path(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }
}

/// The description of a part of a data set, without its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardRecord {
    place: Place,
    ports: Vec<PortRecord>,
    options: DataOptions,
    /// Element type and sizes of each array, if samples are sent.
    arrays: Vec<(i32, Vec<usize>)>,
}

/// A part of a data set in the form in which it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShardSamples {
    pub(crate) record: ShardRecord,
    /// Indices of the samples in their file, or the samples themselves.
    pub(crate) parts: Vec<Vec<u8>>,
}

/// An input in the form in which it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PortRecord {
    name: String,
    dtype: i32,
    shape: Option<Vec<Option<Extent>>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Extent {
    Known(usize),
    Symbol(String),
}

impl From<&Port> for PortRecord {
    fn from(port: &Port) -> Self {
        let extent = |dim: &Dim| match dim {
            Dim::Known(size) => Some(Extent::Known(*size)),
            Dim::Symbol(name) => Some(Extent::Symbol(name.clone())),
            Dim::Formula(_) | Dim::Unknown => None,
        };
        let shape = port.shape.as_ref().map(|shape| shape.iter().map(extent).collect());
        PortRecord { name: port.name.clone(), dtype: port.dtype.code(), shape }
    }
}

impl From<PortRecord> for Port {
    fn from(record: PortRecord) -> Self {
        let dim = |extent: Option<Extent>| match extent {
            Some(Extent::Known(size)) => Dim::Known(size),
            Some(Extent::Symbol(name)) => Dim::Symbol(name),
            None => Dim::Unknown,
        };
        let shape = record.shape.map(|shape| shape.into_iter().map(dim).collect());
        Port { name: record.name, dtype: DataType::from_code(record.dtype), shape }
    }
}

impl Dataset {
    /// Records the source of the data set.
    pub(super) fn placed(mut self, place: Place, ports: &[Port], options: &DataOptions) -> Dataset {
        let (ports, options) = (ports.to_vec(), options.clone());
        self.origin = Some(Arc::new(Origin { place, ports, options }));
        self
    }

    /// The samples `range` for another process.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where there are no such samples, or they cannot be read.
    pub(crate) fn shard(&self, range: Range<usize>) -> Result<ShardSamples> {
        let (Some(origin), Some(rows)) = (&self.origin, self.rows.get(range)) else {
            return Err(Error::new(ErrorKind::Calibration, "these samples cannot be shared out"));
        };
        let mut arrays = Vec::new();
        let mut options = origin.options.clone();
        let parts = match origin.place {
            Place::Path(_) | Place::Synthetic { .. } => {
                vec![rows.iter().flat_map(|row| (*row as u64).to_le_bytes()).collect()]
            }
            Place::Memory => {
                // Arrays are chosen already, and travel in the order of the inputs.
                (options.columns, options.split) = (BTreeMap::new(), None);
                let stored: Result<Vec<HostArray>> =
                    self.columns.iter().filter_map(|column| column.stored(rows)).collect();
                let stored = stored?;
                arrays = stored.iter().map(|a| (a.dtype().code(), a.shape().to_vec())).collect();
                stored.iter().map(encoded).collect::<Result<_>>()?
            }
        };
        let record = ShardRecord {
            place: origin.place.clone(),
            ports: origin.ports.iter().map(PortRecord::from).collect(),
            options,
            arrays,
        };
        Ok(ShardSamples { record, parts })
    }

    /// The samples that another process has sent by [`Dataset::shard`]; they have no labels.
    ///
    /// # Errors
    /// As [`Dataset::open`]; [`ErrorKind::Format`] for damaged ones.
    pub(crate) fn of_shard(samples: ShardSamples) -> Result<Dataset> {
        let ShardSamples { record, parts } = samples;
        let ShardRecord { place, ports, options, arrays } = record;
        let ports: Vec<Port> = ports.into_iter().map(Port::from).collect();
        let whole = match place {
            Place::Memory => {
                let array = |((code, shape), bytes): (&(i32, Vec<usize>), &Vec<u8>)| {
                    decoded(DataType::from_code(*code), shape, bytes)
                };
                let arrays = arrays.iter().zip(&parts).map(array).collect::<Result<Vec<_>>>()?;
                return Dataset::from_arrays(&Arrays::in_order(arrays), &ports, &options);
            }
            Place::Path(path) => Dataset::open(&path, &ports, &options).map_err(|error| {
                let unseen = !path.exists();
                let hint = Hint::from("put the data where every worker sees it under one path");
                if unseen { error.hint(hint) } else { error }
            })?,
            Place::Synthetic { len, seed } => Dataset::synthetic(&ports, len, seed, &options)?,
        };
        let (numbers, _) = parts.first().map(|part| part.as_chunks()).unwrap_or_default();
        let rows: Vec<usize> =
            numbers.iter().map(|bytes| u64::from_le_bytes(*bytes) as usize).collect();
        whole.select(&rows)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, ArrayD, IxDyn};

    use super::*;

    fn port(shape: Vec<Dim>) -> Port {
        Port { name: "x".to_owned(), dtype: DataType::F32, shape: Some(shape) }
    }

    fn travelled(whole: &Dataset, range: Range<usize>) -> Dataset {
        let ShardSamples { record, parts } = whole.shard(range).unwrap();
        let record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        Dataset::of_shard(ShardSamples { record, parts }).unwrap()
    }

    #[test]
    fn a_part_has_the_samples_of_the_whole() {
        let ports = [port(vec![Dim::Symbol("batch".into()), Dim::Known(3)])];
        let options = DataOptions { mean: vec![0.1], ..DataOptions::default() };
        let stored: ArrayD<u8> =
            Array::from_iter(0..60u8).into_shape_with_order(IxDyn(&[20, 3])).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        ndarray_npy::write_npy(&path, &stored).unwrap();
        let arrays = Arrays::in_order([stored.into()]);
        let all = [
            Dataset::open(&path, &ports, &options).unwrap(),
            Dataset::from_arrays(&arrays, &ports, &options).unwrap(),
            Dataset::synthetic(&ports, 20, 5, &options).unwrap(),
        ];
        for whole in all.map(|data| data.subset(11, 3)) {
            let part = travelled(&whole, 4..9);
            assert_eq!(part.len(), 5);
            assert_eq!(part.batch(0..5).unwrap(), whole.batch(4..9).unwrap());
            assert!(whole.shard(9..12).is_err());
        }
    }

    #[test]
    fn arrays_that_were_chosen_by_name_or_part_are_sent_as_those_of_the_inputs() {
        let ports = [port(vec![Dim::Symbol("batch".into()), Dim::Known(3)])];
        let stored = |first: f32| -> HostArray {
            ArrayD::from_shape_fn(vec![20, 3], |at| first + (3 * at[0] + at[1]) as f32).into()
        };
        let named = DataOptions {
            columns: [("x".to_owned(), "pixels".to_owned())].into(),
            ..DataOptions::default()
        };
        let part = DataOptions { split: Some("test".to_owned()), ..DataOptions::default() };
        let cases = [(["pixels", "other"], named), (["test_x", "train_x"], part)];
        for ([own, other], options) in cases {
            let arrays = Arrays::named([(other, stored(100.0)), (own, stored(0.0))]);
            let whole = Dataset::from_arrays(&arrays, &ports, &options).unwrap();
            let part = travelled(&whole, 4..9);
            assert_eq!(part.batch(0..5).unwrap(), whole.batch(4..9).unwrap());
            assert_eq!(part.batch(0..1).unwrap()[0].1.as_f32().unwrap()[[0, 0]], 12.0);
        }
    }
}
