//! Double-precision products of single-precision matrices, panel by panel, without a second copy of a
//! matrix. The bits do not depend on the number of threads.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::product::add_times;

/// Rows and columns of a panel in double precision.
const PANEL: usize = 1024;

/// Rows of a strip of a Gram matrix.
const STRIP: usize = 256;

/// The matrix in double precision.
pub fn widened<T: Copy + Into<f64> + Sync>(matrix: ArrayView2<T>) -> Array2<f64> {
    let mut wide = Array2::zeros(matrix.dim());
    ndarray::Zip::from(&mut wide).and(&matrix).par_for_each(|to, from| *to = (*from).into());
    wide
}

/// `sum += factor · left · right`.
///
/// # Panics
/// Where the sizes do not fit.
pub fn add_wide<A, B>(
    factor: f64,
    left: ArrayView2<A>,
    right: ArrayView2<B>,
    mut sum: ArrayViewMut2<f64>,
) where
    A: Copy + Into<f64> + Sync,
    B: Copy + Into<f64> + Sync,
{
    let inner = right.nrows();
    for start in (0..inner).step_by(PANEL) {
        let here = start..inner.min(start + PANEL);
        let left = widened(left.slice(s![.., here.clone()]));
        add_half_wide(factor, left.view(), right.slice(s![here, ..]), sum.view_mut());
    }
}

/// [`add_wide`] of a `left` that is in double precision already.
///
/// # Panics
/// Where the sizes do not fit.
pub fn add_half_wide<B: Copy + Into<f64> + Sync>(
    factor: f64,
    left: ArrayView2<f64>,
    right: ArrayView2<B>,
    mut sum: ArrayViewMut2<f64>,
) {
    let (inner, columns) = right.dim();
    for start in (0..inner).step_by(PANEL) {
        let here = start..inner.min(start + PANEL);
        let left = left.slice(s![.., here.clone()]);
        for start in (0..columns).step_by(PANEL) {
            let columns = start..columns.min(start + PANEL);
            let right = widened(right.slice(s![here.clone(), columns.clone()]));
            add_times(factor, left, right.view(), sum.slice_mut(s![.., columns]));
        }
    }
}

/// `left · right`.
///
/// # Panics
/// Where the inner sizes differ.
pub fn times_wide<A, B>(left: ArrayView2<A>, right: ArrayView2<B>) -> Array2<f64>
where
    A: Copy + Into<f64> + Sync,
    B: Copy + Into<f64> + Sync,
{
    let mut product = Array2::zeros((left.nrows(), right.ncols()));
    add_wide(1.0, left, right, product.view_mut());
    product
}

/// The inner products of all rows of some matrices, stacked vertically. Only the upper triangle is
/// meaningful.
///
/// # Panics
/// If the matrices do not have the same width.
pub fn inner_products(parts: &[ArrayView2<f32>]) -> Array2<f64> {
    let rows: usize = parts.iter().map(|p| p.nrows()).sum();
    let columns = parts.first().map_or(0, |p| p.ncols());
    let mut products = Array2::zeros((rows, rows));
    let mut panel = Array2::<f64>::zeros((rows, PANEL.min(columns)));
    for start in (0..columns).step_by(PANEL) {
        let here = start..columns.min(start + PANEL);
        let mut row = 0;
        for part in parts {
            let to = s![row..row + part.nrows(), ..here.len()];
            let from = part.slice(s![.., here.clone()]);
            ndarray::Zip::from(panel.slice_mut(to))
                .and(&from)
                .par_for_each(|to, from| *to = f64::from(*from));
            row += part.nrows();
        }
        let panel = panel.slice(s![.., ..here.len()]);
        let strips = products.axis_chunks_iter_mut(Axis(0), STRIP).into_par_iter().enumerate();
        strips.for_each(|(i, mut strip)| {
            let (start, end) = (i * STRIP, i * STRIP + strip.nrows());
            let (left, right) = (panel.slice(s![start..end, ..]), panel.slice(s![start.., ..]));
            add_times(1.0, left, right.t(), strip.slice_mut(s![.., start..]));
        });
    }
    products
}

/// The sum of all squares.
pub fn squares(matrix: ArrayView2<f32>) -> f64 {
    let row =
        |row: ndarray::ArrayView1<f32>| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let rows: Vec<f64> = matrix.axis_iter(Axis(0)).into_par_iter().map(row).collect();
    rows.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::{on_threads, random};
    use ndarray::concatenate;

    fn single(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        random(rows, columns, seed).mapv(|v| v as f32)
    }

    fn worst(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        assert_eq!(a.dim(), b.dim());
        (a - b).mapv(f64::abs).into_iter().max_by(f64::total_cmp).unwrap_or(0.0)
    }

    #[test]
    fn products_across_panel_edges_equal_the_definition() {
        let (a, b) = (single(3, 2050, 1), single(2050, 1030, 2));
        let wanted = widened(a.view()).dot(&widened(b.view()));
        assert!(worst(&times_wide(a.view(), b.view()), &wanted) < 1e-10);
        let mut sum = wanted.clone();
        add_half_wide(-1.0, widened(a.view()).view(), b.view(), sum.view_mut());
        assert!(worst(&sum, &Array2::zeros(wanted.dim())) < 1e-10);
    }

    #[test]
    fn inner_products_are_those_of_the_rows_of_all_parts() {
        let (a, b) = (single(300, 1100, 1), single(40, 1100, 2));
        let all = widened(concatenate![Axis(0), a, b].view());
        let (found, wanted) = (inner_products(&[a.view(), b.view()]), all.dot(&all.t()));
        for ((i, j), value) in found.indexed_iter().filter(|((i, j), _)| i <= j) {
            assert!((value - wanted[(i, j)]).abs() < 1e-10);
        }
        assert!((squares(a.view()) + squares(b.view()) - wanted.diag().sum()).abs() < 1e-8);
    }

    #[test]
    fn same_bits_on_any_number_of_threads() {
        let (a, b) = (single(600, 1300, 3), single(1300, 40, 4));
        let run = |threads| {
            on_threads(threads, || {
                let products = (times_wide(a.view(), b.view()), inner_products(&[a.view()]));
                (products, squares(a.view()))
            })
        };
        assert_eq!(run(1), run(3));
    }
}
