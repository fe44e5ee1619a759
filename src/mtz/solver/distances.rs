//! Squared lengths of all rows of a matrix, and distances between those of two.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

use crate::calib::product::times;
use crate::calib::wide::add_wide;

/// ½ (w_i − w_j)ᵀ M (w_i − w_j) for all rows i of one weight and j of another, from M w_i and M w_j as
/// columns.
pub(super) fn half_distances<A, B>(
    [w_a, w_b]: [ArrayView2<A>; 2],
    [m_a, m_b]: [ArrayView2<B>; 2],
) -> Array2<f64>
where
    A: Copy + Into<f64> + Sync,
    B: Copy + Into<f64> + Sync,
{
    let own = |w: ArrayView2<A>, m: ArrayView2<B>| -> Array1<f64> {
        let pairs = w.axis_iter(Axis(0)).into_par_iter().zip(m.axis_iter(Axis(1)).into_par_iter());
        let dots = pairs.map(|(w, m)| {
            w.iter().zip(m).map(|(w, m)| (*w).into() * (*m).into()).sum::<f64>() / 2.0
        });
        dots.collect::<Vec<f64>>().into()
    };
    let (own_a, own_b) = (own(w_a, m_a), own(w_b, m_b));
    let mut distances =
        Array2::from_shape_fn((w_a.nrows(), w_b.nrows()), |(i, j)| own_a[i] + own_b[j]);
    add_wide(-1.0, w_a, m_b, distances.view_mut());
    distances
}

/// wᵀ M w for each row w of `weights`, M symmetric. Blocks of M left of its diagonal are those right of
/// it, so they are not multiplied.
pub(super) fn quadratic_forms(matrix: ArrayView2<f64>, weights: ArrayView2<f64>) -> Array1<f64> {
    /// Rows of M in one product.
    const STRIP: usize = 512;
    let size = matrix.nrows();
    let mut sums = Array1::zeros(weights.nrows());
    for start in (0..size).step_by(STRIP) {
        let end = size.min(start + STRIP);
        let own = weights.slice(s![.., start..end]);
        let images = times(own, matrix.slice(s![start..end, start..]));
        let (here, behind) = images.view().split_at(Axis(1), end - start);
        Zip::from(&mut sums)
            .and(here.rows())
            .and(behind.rows())
            .and(own.rows())
            .and(weights.slice(s![.., end..]).rows())
            .for_each(|sum, here, behind, own, rest| {
                *sum += here.dot(&own) + 2.0 * behind.dot(&rest);
            });
    }
    sums
}
