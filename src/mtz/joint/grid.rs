//! Weights that a model stores in few bits: what a merge makes of them is stored so, too.
//!
//! Each row gets a step of its own, so that the largest weight of the row is the largest number. Rows that
//! several tasks share are rounded in the same way.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use crate::ir::{Codes, DataType, Tensor};

/// The weights nearest to those of a matrix, the last column left aside, that can be stored like weights with
/// these codes; and their own codes. `None` for types that have no signed counterpart here.
pub(super) fn rounded(
    matrix: ArrayView2<f32>,
    before: &Codes,
    axis: usize,
) -> Option<(Array2<f32>, Codes)> {
    let (dtype, most) = match before.dtype {
        DataType::I4 | DataType::I8 | DataType::U8 => (DataType::I8, f64::from(i8::MAX)),
        DataType::I16 | DataType::U16 => (DataType::I16, f64::from(i16::MAX)),
        _ => return None,
    };
    let width = matrix.ncols().checked_sub(1)?;
    let weights = matrix.slice(s![.., ..width]);
    let step = |row: ArrayView1<f32>| {
        let largest = row.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        if largest > 0.0 { f64::from(largest) / most } else { 1.0 }
    };
    let steps: Array1<f64> = weights.rows().into_iter().map(step).collect();
    // What is stored is the step in the weights' type.
    let scale = Tensor::from_f64(before.scale.dtype, &steps.into_dyn()).ok()?;
    let steps = scale.to_f64().ok()?;
    let mut result = matrix.to_owned();
    for (mut row, step) in result.slice_mut(s![.., ..width]).rows_mut().into_iter().zip(&steps) {
        if !(step.is_normal() && *step > 0.0) {
            return None;
        }
        row.mapv_inplace(|w| ((f64::from(w) / step).round().clamp(-most, most) * step) as f32);
    }
    Some((result, Codes { dtype, axis, scale, zero: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn rows_become_multiples_of_their_own_steps() {
        let before = Codes {
            dtype: DataType::U8,
            axis: 0,
            scale: Tensor::from_f32(&ndarray::arr0(0.1f32).into_dyn()),
            zero: None,
        };
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
}
