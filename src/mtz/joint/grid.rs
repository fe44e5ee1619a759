//! Stores merged weights in few bits again if the original weights were stored so.
//!
//! Each row gets its own scale, so that its largest weight becomes the largest integer. Weights of half precision are
//! rounded to that. Shared rows are rounded alike in all tasks.

use ndarray::{Array2, ArrayView2, Ix2, s};

use crate::ir::{Codes, DataType, Tensor};

/// How the weights of a layer are rounded. Layers with the same grid round the same rows to the same weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Type of the numbers.
    dtype: DataType,
    /// Blocks per row.
    blocks: usize,
    /// Places of columns in each of several blocks; 0 where all blocks are full.
    size: usize,
}

impl Grid {
    /// The grid for weights that were stored with the codes `before`. Rows lie along `axis` of the weights. `None` for
    /// types without a signed counterpart here.
    pub(super) fn of(before: &Codes, axis: usize) -> Option<Grid> {
        let dtype = match before.dtype {
            DataType::I4 | DataType::U4 => DataType::I4,
            DataType::I8 | DataType::U8 => DataType::I8,
            DataType::I16 | DataType::U16 => DataType::I16,
            half if before.is_half() => half,
            _ => return None,
        };
        let blocks = blocks(before, axis);
        let size = if blocks > 1 { before.block } else { 0 };
        Some(Grid { dtype, blocks, size })
    }

    /// Whether rows have several scales.
    pub(crate) fn has_blocks(&self) -> bool {
        self.blocks > 1
    }

    /// The largest integer.
    fn most(&self) -> f64 {
        match self.dtype {
            DataType::I4 => 7.0,
            DataType::I8 => f64::from(i8::MAX),
            _ => f64::from(i16::MAX),
        }
    }
}

/// How the weights of a layer are rounded when they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// They stay as they are.
    Nothing,
    /// To the grid of the layer, column by column.
    Own,
    /// To blocks in which each column has this place.
    Places(Vec<usize>),
}

/// Rounds a matrix, except its last column (the bias), to weights that can be quantised in the type and the blocks
/// of `before`; returns them with their new quantisation. Rows lie along `axis` of the weights. `None` for types
/// without a signed counterpart here.
pub(super) fn rounded(
    matrix: ArrayView2<f32>,
    before: &Codes,
    axis: usize,
) -> Option<(Array2<f32>, Codes)> {
    let grid = Grid::of(before, axis)?;
    let width = matrix.ncols().checked_sub(1)?;
    if before.is_half() {
        return Some((halved(matrix, width, grid.dtype)?, before.clone()));
    }
    let (blocks, most, dtype) = (grid.blocks, grid.most(), grid.dtype);
    let block_of = blocks_of(before, width, blocks)?;
    let mut steps = Array2::<f64>::zeros((matrix.nrows(), blocks));
    for ((row, column), weight) in matrix.slice(s![.., ..width]).indexed_iter() {
        let largest = steps.get_mut([row, *block_of.get(column)?])?;
        *largest = largest.max(f64::from(weight.abs()));
    }
    steps.mapv_inplace(|largest| if largest > 0.0 { largest / most } else { 1.0 });
    // The scale is stored in the weights' type, so compute with its rounded value.
    let scale = Tensor::from_f64(before.scale.dtype, &steps.into_dyn()).ok()?;
    let steps = scale.to_f64().ok()?;
    if !steps.iter().all(|step| step.is_normal() && *step > 0.0) {
        return None;
    }
    let mut result = matrix.to_owned();
    for ((row, column), weight) in result.slice_mut(s![.., ..width]).indexed_iter_mut() {
        let step = *steps.get([row, *block_of.get(column)?])?;
        // Integers know no negative zero, so adding zero gives the number that they stand for.
        *weight = ((f64::from(*weight) / step).round().clamp(-most, most) * step) as f32 + 0.0;
    }
    let (axis, scale) = match (blocks, axis) {
        (1, _) => (axis, Tensor { dims: vec![matrix.nrows()], ..scale }),
        (_, 0) => (1, scale),
        _ => (0, scale.transposed()?),
    };
    let (block, places) = match blocks {
        1 => (0, None),
        _ => (before.block, before.places.clone()),
    };
    let direct = before.direct;
    Some((result, Codes { dtype, axis, scale, zero: None, direct, block, places }))
}

/// The block of each of `width` columns.
fn blocks_of(before: &Codes, width: usize, blocks: usize) -> Option<Vec<usize>> {
    let places = before.places.as_ref().filter(|_| blocks > 1);
    let all: Option<Vec<usize>> = match places {
        Some(places) => places.iter().map(|place| place.checked_div(before.block)).collect(),
        None => {
            let size = width.checked_div(blocks);
            let size = size.filter(|size| size * blocks == width && *size > 0)?;
            Some((0..width).map(|column| column / size).collect())
        }
    };
    all.filter(|all| all.len() == width)
}

/// A matrix whose weights are rounded to half precision; `None` if it cannot hold them.
fn halved(matrix: ArrayView2<f32>, width: usize, half: DataType) -> Option<Array2<f32>> {
    let weights = matrix.slice(s![.., ..width]).mapv(f64::from).into_dyn();
    let rounded = Tensor::from_f64(half, &weights).ok()?.to_f32().ok()?;
    let rounded = rounded.into_dimensionality::<Ix2>().ok()?;
    let mut result = matrix.to_owned();
    result.slice_mut(s![.., ..width]).assign(&rounded);
    result.iter().all(|weight| weight.is_finite()).then_some(result)
}

/// The number of blocks that each row is stored in.
fn blocks(before: &Codes, axis: usize) -> usize {
    let is_matrix = before.scale.dims.len() == 2;
    let blocks = before.scale.dims.get(1 - axis.min(1));
    blocks.copied().filter(|_| before.is_blocked() && is_matrix && before.axis != axis).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn rows_become_multiples_of_their_own_steps() {
        let before =
            Codes::new(DataType::U8, 0, Tensor::from_f32(&ndarray::arr0(0.1f32).into_dyn()), None);
        let matrix = arr2(&[[0.3f32, -1.27, 0.5], [0.0, 0.0, 0.7]]);
        let (found, codes) = rounded(matrix.view(), &before, 0).unwrap();
        assert!((&found - &matrix).iter().all(|gap| gap.abs() <= 0.005), "{found}");
        assert_eq!(found.column(2), matrix.column(2));
        let weights = Tensor::from_f32(&found.slice(s![.., ..2]).to_owned().into_dyn());
        let numbers = codes.encode(&weights).unwrap().0;
        assert_eq!(
            (numbers.dtype, numbers.to_i64().unwrap()),
            (DataType::I8, vec![30, -127, 0, 0])
        );
    }

    #[test]
    fn blocks_of_rows_become_multiples_of_their_own_steps() {
        let before =
            Codes::new(DataType::U4, 1, Tensor::from_f32(&arr2(&[[0.1f32, 0.2]]).into_dyn()), None);
        let matrix = arr2(&[[0.3f32, -0.7, 7.0, 2.0, 0.5]]);
        let (found, codes) = rounded(matrix.view(), &before, 0).unwrap();
        // All are multiples of a seventh of the largest of their block.
        assert!((&found - &matrix).iter().all(|gap| gap.abs() < 1e-6), "{found}");
        let weights = Tensor::from_f32(&found.slice(s![.., ..4]).to_owned().into_dyn());
        let numbers = codes.encode(&weights).unwrap().0;
        assert_eq!((numbers.dtype, numbers.to_i64()), (DataType::I4, Some(vec![3, -7, 7, 2])));
        // The same weights stored with the inputs first.
        let turned = before.along(0).unwrap();
        let (_, codes) = rounded(matrix.view(), &turned, 1).unwrap();
        let numbers = codes.encode(&weights.transposed().unwrap()).unwrap().0;
        assert_eq!(numbers.to_i64(), Some(vec![3, -7, 7, 2]));
    }

    /// A small negative weight becomes the integer zero, which stands for a zero without a sign.
    #[test]
    fn small_weights_are_stored_as_integers() {
        let scale = Tensor::from_f32(&ndarray::arr0(0.1f32).into_dyn());
        let before = Codes::new(DataType::I8, 0, scale, None);
        let (found, codes) = rounded(arr2(&[[-1e-4f32, 1.0, 0.0]]).view(), &before, 0).unwrap();
        let weights = Tensor::from_f32(&found.slice(s![.., ..2]).to_owned().into_dyn());
        assert_eq!(codes.encode(&weights).unwrap().0.to_i64(), Some(vec![0, 127]));
    }

    #[test]
    fn weights_of_half_precision_are_rounded_to_it() {
        let before = Codes::of_half(DataType::F16, DataType::F32).unwrap();
        let (found, codes) = rounded(arr2(&[[0.1f32, -3.3, 0.7]]).view(), &before, 0).unwrap();
        assert_eq!(found[[0, 0]], half::f16::from_f32(0.1).to_f32());
        assert_eq!(found[[0, 2]], 0.7, "the bias");
        let weights = Tensor::from_f32(&found.slice(s![.., ..2]).to_owned().into_dyn());
        assert_eq!(codes.encode(&weights).unwrap().0.dtype, DataType::F16);
        assert!(rounded(arr2(&[[1e6f32, 0.0]]).view(), &before, 0).is_none(), "too large");
    }
}
