//! Requests of a merge to its workers, and their replies.

use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use super::parcel::{Parcel, bytes_of, damaged, elements, pack};
use crate::calib::gram::Moments;
use crate::calib::kept::{KeptRows, Statistics};
use crate::calib::taps::{Part, RowLimit};
use crate::error::Result;
use crate::ir::{DataType, Tensor};
use crate::mtz::statistics::source::View;

/// A request for statistics of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Number of the walk. A walk begins with original nets and ends with merged ones.
    pub(super) walk: u64,
    /// Number of the request in its walk.
    pub(super) number: u64,
    pub(super) task: usize,
    pub(super) layer: usize,
    pub(super) view: View,
    /// Whether every channel needs separate moments.
    pub(super) by_channel: bool,
    /// Whether weights have changed everywhere in the merged nets.
    pub(super) restart: bool,
    pub(super) rows: usize,
    pub(super) kept: usize,
    pub(super) coherence: f64,
    pub(super) seed: u64,
    pub(super) room: Option<u64>,
    /// Constants of the task's net that have changed since the last request.
    pub(super) changed: Vec<Changed>,
}

impl Request {
    /// The limit of rows for a part of the samples.
    pub(super) fn limit(&self, part: Part) -> RowLimit {
        RowLimit {
            rows: self.rows,
            kept: self.kept,
            coherence: self.coherence,
            seed: self.seed,
            part: Some(part),
        }
    }
}

/// A changed constant; its elements are a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Changed {
    pub(super) name: String,
    dtype: i32,
    dims: Vec<usize>,
}

impl Changed {
    pub(super) fn new(name: &str, tensor: &Tensor) -> Changed {
        let (dtype, dims) = (tensor.dtype.code(), tensor.dims.clone());
        Changed { name: name.to_owned(), dtype, dims }
    }

    pub(super) fn tensor(&self, data: &[u8]) -> Tensor {
        let (dtype, data) = (DataType::from_code(self.dtype), data.to_vec().into());
        Tensor { dtype, dims: self.dims.clone(), data }
    }
}

/// The statistics in a reply; the variant defines its blobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Found {
    /// No rows.
    Nothing,
    /// Per layer or channel: the upper triangle of Σ x xᵀ, Σ x yᵀ and Σ y².
    Moments(Vec<Sums>),
    /// Rows x and y.
    Rows { rows: usize, inputs: usize, outputs: Option<usize> },
    /// Counts of picked rows of a table.
    Counts { rows: usize },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sums {
    /// Including the constant.
    inputs: usize,
    outputs: Option<usize>,
    count: u64,
}

/// A worker's reply.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Its samples give no rows.
    Nothing,
    Layer(Statistics),
    Channels(Vec<Moments>),
}

impl Reply {
    pub(super) fn encode(self) -> Result<Vec<u8>> {
        let mut blobs = Vec::new();
        let found = match self {
            Reply::Nothing => Found::Nothing,
            Reply::Layer(Statistics::Counts(counts)) => {
                blobs.push(bytes_of(counts.iter().copied(), f64::to_le_bytes));
                Found::Counts { rows: counts.len() }
            }
            Reply::Layer(Statistics::Rows(rows)) => {
                let (inputs, targets) = rows.parts();
                let all = [Some(inputs), targets];
                let all = all.into_iter().flatten();
                blobs.extend(all.map(|a| bytes_of(a.iter().copied(), f32::to_le_bytes)));
                let outputs = targets.map(|y| y.ncols());
                Found::Rows { rows: inputs.nrows(), inputs: inputs.ncols(), outputs }
            }
            Reply::Layer(Statistics::Moments(moments)) => {
                Found::Moments(vec![put(&moments, &mut blobs)])
            }
            Reply::Channels(all) => {
                Found::Moments(all.iter().map(|moments| put(moments, &mut blobs)).collect())
            }
        };
        pack(&found, &blobs)
    }

    /// A reply that was read; its moments are those of channels for a request `by_channel`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] for a damaged reply.
    pub(super) fn decode(bytes: &[u8], by_channel: bool) -> Result<Reply> {
        let parcel: Parcel<'_, Found> = Parcel::of(bytes)?;
        Ok(match &parcel.header {
            Found::Nothing => Reply::Nothing,
            Found::Counts { rows } => {
                let counts = elements(parcel.blob(0)?, Some(*rows), f64::from_le_bytes)?;
                Reply::Layer(Statistics::Counts(Array1::from_vec(counts)))
            }
            Found::Rows { rows, inputs, outputs } => {
                let matrix = |blob, columns: usize| -> Result<Array2<f32>> {
                    let count = rows.checked_mul(columns);
                    let all = elements(parcel.blob(blob)?, count, f32::from_le_bytes)?;
                    Array2::from_shape_vec((*rows, columns), all).map_err(damaged)
                };
                let targets = outputs.map(|columns| matrix(1, columns)).transpose()?;
                Reply::Layer(Statistics::Rows(KeptRows::new(matrix(0, *inputs)?, targets)?))
            }
            Found::Moments(all) => {
                let mut next = 0;
                let moments = all.iter().map(|sums| take(sums, &parcel, &mut next));
                let mut moments = moments.collect::<Result<Vec<_>>>()?;
                match (by_channel, moments.len()) {
                    (true, _) => Reply::Channels(moments),
                    (false, 1) => Reply::Layer(Statistics::Moments(moments.remove(0))),
                    _ => return Err(damaged("it is about several layers")),
                }
            }
        })
    }
}

fn put(moments: &Moments, blobs: &mut Vec<Vec<u8>>) -> Sums {
    let upper = moments.upper();
    let triangle = upper.rows().into_iter().enumerate();
    let triangle = triangle.flat_map(|(i, row)| row.into_iter().skip(i).copied());
    blobs.push(bytes_of(triangle, f64::to_le_bytes));
    let targets = moments.cross().zip(moments.target_squares());
    if let Some((cross, squares)) = targets {
        blobs.push(bytes_of(cross.iter().copied(), f64::to_le_bytes));
        blobs.push(bytes_of(squares.iter().copied(), f64::to_le_bytes));
    }
    let outputs = targets.map(|(_, squares)| squares.len());
    Sums { inputs: upper.nrows(), outputs, count: moments.count() }
}

fn take(sums: &Sums, parcel: &Parcel<'_, Found>, next: &mut usize) -> Result<Moments> {
    let mut blob = |count| {
        *next += 1;
        elements(parcel.blob(*next - 1)?, count, f64::from_le_bytes)
    };
    let n = sums.inputs;
    let size = n.checked_add(1).and_then(|above| n.checked_mul(above)).map(|twice| twice / 2);
    let mut triangle = blob(size)?.into_iter();
    let mut upper = Array2::zeros((n, n));
    for i in 0..n {
        upper.row_mut(i).iter_mut().skip(i).zip(&mut triangle).for_each(|(to, from)| *to = from);
    }
    let targets = match sums.outputs {
        None => None,
        Some(outputs) => {
            let cross = blob(n.checked_mul(outputs))?;
            let cross = Array2::from_shape_vec((n, outputs), cross).map_err(damaged)?;
            Some((cross, Array1::from_vec(blob(Some(outputs))?)))
        }
    };
    Moments::from_parts(upper, targets, sums.count)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn travelled(reply: Reply, by_channel: bool) -> Reply {
        Reply::decode(&reply.encode().unwrap(), by_channel).unwrap()
    }

    fn moments(first: f32) -> Moments {
        let mut moments = Moments::with_targets(2, 1);
        let rows = array![[first, 2.0], [3.0, -4.0]];
        moments.push_with(rows.view(), array![[0.5], [1.0]].view()).unwrap();
        moments
    }

    #[test]
    fn replies_arrive_as_they_were() {
        let sums = |m: Moments| m.into_sums();
        let Reply::Layer(Statistics::Moments(found)) =
            travelled(Reply::Layer(moments(1.0).into()), false)
        else {
            panic!("not moments")
        };
        assert_eq!((found.count(), sums(found)), (2, sums(moments(1.0))));
        let both = vec![moments(1.0), moments(7.0)];
        let Reply::Channels(found) = travelled(Reply::Channels(both), true) else {
            panic!("not channels")
        };
        assert_eq!(sums(found[1].clone()), sums(moments(7.0)));
        let rows = KeptRows::new(array![[1.0, 1.0], [2.0, 1.0]], Some(array![[3.0], [4.0]]));
        let rows = rows.unwrap();
        let Reply::Layer(Statistics::Rows(found)) =
            travelled(Reply::Layer(Statistics::Rows(rows.clone())), false)
        else {
            panic!("not rows")
        };
        assert_eq!(found, rows);
        let counts = Reply::Layer(Statistics::Counts(array![0.0, 3.0]));
        let Reply::Layer(Statistics::Counts(found)) = travelled(counts, false) else {
            panic!("not counts")
        };
        assert_eq!(found, array![0.0, 3.0]);
        assert!(matches!(travelled(Reply::Nothing, true), Reply::Nothing));
    }

    #[test]
    fn damaged_replies_are_errors() {
        let bytes = Reply::Layer(moments(1.0).into()).encode().unwrap();
        for damaged in [&bytes[..0], &bytes[..bytes.len() - 1], &bytes[9..], b"no reply"] {
            assert!(Reply::decode(damaged, false).is_err());
        }
    }
}
