//! Symmetric systems: the only user of LAPACK.
//!
//! LAPACK's own Cholesky rounds differently with every thread count. Here the matrix is cut into
//! block rows of fixed height: LAPACK factors the blocks on the diagonal on one thread, and
//! everything else is matrix products, spread over rayon's threads block by block. So the factor
//! has the same bits on any number of threads, and it is faster than LAPACK's on row-major data.

use std::collections::VecDeque;
use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use ndarray_linalg::{Cholesky, Diag, Eigh, SolveTriangular, UPLO};

use crate::calib::product::{add_times, single_threaded_blas, times};
use crate::error::{Error, ErrorKind, Result};

/// Default damping, relative to the mean diagonal entry. Results hardly change between 1e-4 and 1e-3.
pub const DAMPING: f64 = 1e-4;

/// Height of a block row.
const BLOCK: usize = 192;

/// Limit of attempts to factor; each has ten times the damping of the previous one.
const ATTEMPTS: i32 = 6;

/// The least damping of a second attempt, before it grows.
const LEAST_RETRY: f64 = 1e-6;

/// The smallest mean diagonal that damping is relative to, so that all-zero matrices (a layer whose
/// inputs are all dead) stay harmless.
const TINY: f64 = 1e-12;

/// The ridge for the diagonal of `h`: `damping` times the mean diagonal entry.
pub fn ridge(h: ArrayView2<f64>, damping: f64) -> f64 {
    relative_ridge(h.diag().sum(), h.nrows(), damping)
}

/// [`ridge`] of a matrix of `size` rows with the given trace.
pub fn relative_ridge(trace: f64, size: usize, damping: f64) -> f64 {
    damping * (trace / size.max(1) as f64).max(TINY)
}

/// The eigenvalues of a symmetric matrix, descending, with their vectors as columns.
///
/// # Errors
/// [`ErrorKind::Numeric`] if LAPACK finds none, for example because the matrix is not finite.
pub fn eigenpairs(matrix: &Array2<f64>) -> Result<(Array1<f64>, Array2<f64>)> {
    single_threaded_blas();
    let failed = || Error::new(ErrorKind::Numeric, "a matrix of costs has no eigenvalues");
    if !matrix.iter().all(|value| value.is_finite()) {
        return Err(failed());
    }
    let symmetric = (matrix + &matrix.t()) / 2.0;
    let (values, vectors) = symmetric.eigh(UPLO::Upper).map_err(|e| failed().because(e))?;
    let descending = s![..;-1];
    let vectors = vectors.slice(s![.., ..;-1]).as_standard_layout().into_owned();
    Ok((values.slice(descending).to_owned(), vectors))
}

/// The Cholesky factor H = Uᵀ U of a symmetric positive definite matrix. It takes about half of the
/// matrix's memory.
pub struct Spd {
    size: usize,
    blocks: Vec<BlockRow>,
    ridge: f64,
}

/// Rows `start..start + inverse.nrows()` of U.
struct BlockRow {
    start: usize,
    /// The inverse of the block on the diagonal, so that substitution is a matrix product. Damping
    /// bounds its condition.
    inverse: Array2<f64>,
    /// The rows right of that block.
    complement: Array2<f64>,
}

impl Spd {
    /// Factors `h` (S×S, symmetric; the upper triangle counts) plus `ridge` on its diagonal. Where
    /// that is not positive definite, a ridge of at least a millionth of the mean diagonal entry is
    /// tried, growing tenfold up to five times.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] where `h` holds NaN or infinity or is far from positive definite.
    ///
    /// # Panics
    /// Where `h` is not square.
    pub fn factor(h: ArrayView2<f64>, ridge: f64) -> Result<Spd> {
        assert!(h.is_square(), "only a square matrix has a Cholesky factor");
        let mean = h.diag().sum() / h.nrows().max(1) as f64;
        Self::factor_rows(h.nrows(), Ridges::of_matrix(ridge, mean), |rows| {
            h.slice(s![rows.clone(), rows.start..]).to_owned()
        })
    }

    /// [`Spd::factor`] of a matrix of `size` rows that is never stored as a whole: `rows` computes a
    /// few rows at a time, from the diagonal to the right.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub fn factor_rows(
        size: usize,
        ridges: Ridges,
        rows: impl Fn(Range<usize>) -> Array2<f64> + Sync,
    ) -> Result<Spd> {
        single_threaded_blas();
        let not_finite = || Error::new(ErrorKind::Numeric, "a Hessian contains NaN or infinity");
        for ridge in ridges.all() {
            // Block row k starts as rows of H and becomes rows of U.
            let waiting: VecDeque<Array2<f64>> = (0..size)
                .into_par_iter()
                .step_by(BLOCK)
                .map(|start| rows(start..size.min(start + BLOCK)))
                .collect();
            if !ridge.is_finite() || !waiting.iter().flatten().all(|v| v.is_finite()) {
                return Err(not_finite());
            }
            if let Some(factor) = Self::attempt(size, waiting, ridge) {
                return Ok(factor);
            }
        }
        Err(Error::new(ErrorKind::Numeric, "a Hessian is not positive definite")
            .hint("use more calibration samples or a larger damping"))
    }

    /// Later block rows are updated on the way.
    fn attempt(size: usize, mut waiting: VecDeque<Array2<f64>>, ridge: f64) -> Option<Spd> {
        waiting.iter_mut().for_each(|row| row.diag_mut().mapv_inplace(|v| v + ridge));
        let mut blocks = Vec::with_capacity(waiting.len());
        while let Some(row) = waiting.pop_front() {
            let block = BlockRow::factor(size - row.ncols(), &row)?;
            waiting.par_iter_mut().enumerate().for_each(|(i, row)| {
                let right = block.complement.slice(s![.., i * BLOCK..]);
                let left = right.slice(s![.., ..row.nrows()]);
                general_mat_mul(-1.0, &left.t(), &right, 1.0, row);
            });
            blocks.push(block);
        }
        Some(Spd { size, blocks, ridge })
    }

    /// The ridge that was added to the diagonal.
    pub fn ridge(&self) -> f64 {
        self.ridge
    }

    /// Bytes that the factor takes.
    pub fn bytes(&self) -> u64 {
        let elements = |block: &BlockRow| block.inverse.len() + block.complement.len();
        8 * self.blocks.iter().map(elements).sum::<usize>() as u64
    }

    /// U, with noughts below its diagonal.
    pub fn upper(&self) -> Array2<f64> {
        let mut upper = Array2::zeros((self.size, self.size));
        for BlockRow { start, inverse, complement } in &self.blocks {
            let (height, end) = (inverse.nrows(), start + inverse.nrows());
            let mut block = upper.slice_mut(s![*start..end, *start..end]);
            // The inverse of a triangle, row by row from below.
            for row in (0..height).rev() {
                let own = inverse[(row, row)].recip();
                block[(row, row)] = own;
                for column in row + 1..height {
                    let between = s![row, row + 1..=column];
                    let sum =
                        inverse.slice(between).dot(&block.slice(s![row + 1..=column, column]));
                    block[(row, column)] = -own * sum;
                }
            }
            upper.slice_mut(s![*start..end, end..]).assign(complement);
        }
        upper
    }

    /// H⁻¹ · `rhs` (S × anything).
    ///
    /// # Panics
    /// Where `rhs` has not S rows.
    pub fn solve(&self, rhs: ArrayView2<f64>) -> Array2<f64> {
        let mut solution = self.solve_half(rhs);
        self.substitute_back(&mut solution);
        solution
    }

    /// U⁻ᵀ · `rhs`: half a solution, whose inner products are those of the solution,
    /// ‖U⁻ᵀ b‖² = bᵀ H⁻¹ b.
    ///
    /// # Panics
    /// Where `rhs` has not S rows.
    pub fn solve_half(&self, rhs: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(rhs.nrows(), self.size, "a right-hand side must fit the matrix");
        let mut half = rhs.as_standard_layout().into_owned();
        self.substitute_forward(&mut half);
        half
    }

    /// Uᵀ y = b, in place.
    fn substitute_forward(&self, b: &mut Array2<f64>) {
        for block in &self.blocks {
            let complement = b.slice_mut(s![block.start.., ..]);
            let (mut here, below) = complement.split_at(Axis(0), block.inverse.nrows());
            let solved = times(block.inverse.t(), here.view());
            here.assign(&solved);
            add_times(-1.0, block.complement.t(), solved.view(), below);
        }
    }

    /// U x = y, in place.
    fn substitute_back(&self, y: &mut Array2<f64>) {
        for (k, block) in self.blocks.iter().enumerate().rev() {
            let height = block.inverse.nrows();
            let (mut above, complement) = y.view_mut().split_at(Axis(0), block.start);
            let (mut here, _) = complement.split_at(Axis(0), height);
            let solved = times(block.inverse.view(), here.view());
            here.assign(&solved);
            let strips = above.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter();
            strips.zip(&self.blocks[..k]).for_each(|(mut strip, upper)| {
                let column = block.start - upper.start - BLOCK;
                let left = upper.complement.slice(s![.., column..column + height]);
                general_mat_mul(-1.0, &left, &solved, 1.0, &mut strip);
            });
        }
    }
}

/// The ridges of successive attempts.
#[derive(Debug, Clone, Copy)]
pub struct Ridges {
    first: Option<f64>,
    least: f64,
}

impl Ridges {
    /// For a matrix whose mean diagonal entry is `mean`.
    pub fn of_matrix(ridge: f64, mean: f64) -> Ridges {
        Ridges { first: Some(ridge), least: ridge.max(LEAST_RETRY * mean.max(TINY)) }
    }

    /// For the inner products of a few samples of many inputs, whose matrix has the mean diagonal entry
    /// `mean`. A ridge that would not make that matrix positive definite is not tried here either.
    pub fn of_few_samples(ridge: f64, mean: f64) -> Ridges {
        let ridges = Self::of_matrix(ridge, mean);
        Ridges { first: ridges.first.filter(|ridge| *ridge != 0.0), ..ridges }
    }

    fn all(self) -> impl Iterator<Item = f64> {
        let growing = (1..ATTEMPTS).map(move |attempt| self.least * 10f64.powi(attempt));
        self.first.into_iter().chain(growing)
    }
}

impl BlockRow {
    /// Factors the block on the diagonal of `row` and divides the rest by it.
    fn factor(start: usize, row: &Array2<f64>) -> Option<BlockRow> {
        let (diagonal, complement) = row.view().split_at(Axis(1), row.nrows());
        let upper = diagonal.cholesky(UPLO::Upper).ok()?;
        let unit = Array2::eye(row.nrows());
        let inverse = upper.solve_triangular(UPLO::Upper, Diag::NonUnit, &unit).ok()?;
        let complement = times(inverse.t(), complement);
        Some(BlockRow { start, inverse, complement })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::{on_threads, random};
    use proptest::prelude::*;

    fn spd(size: usize, seed: u64) -> Array2<f64> {
        let x = random(size + 5, size, seed);
        x.t().dot(&x) + Array2::<f64>::eye(size) * 0.1
    }

    fn worst(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        assert_eq!(a.dim(), b.dim());
        a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn solutions_solve(size in 1usize..450, columns in 1usize..90, seed: u64) {
            let (h, b) = (spd(size, seed), random(size, columns, !seed));
            let factor = Spd::factor(h.view(), 0.0).unwrap();
            let x = factor.solve(b.view());
            prop_assert!(worst(&h.dot(&x), &b) < 1e-9);
            let half = factor.solve_half(b.view());
            prop_assert!(worst(&half.t().dot(&half), &b.t().dot(&x)) < 1e-8);
            let upper = factor.upper();
            prop_assert!(worst(&upper.t().dot(&upper), &h) < 1e-9 * size as f64);
        }
    }

    #[test]
    fn eigenpairs_are_in_order_and_put_the_matrix_together() {
        let h = spd(40, 3);
        let (values, vectors) = eigenpairs(&h).unwrap();
        assert!(values.windows(2).into_iter().all(|pair| pair[0] >= pair[1]));
        let together = (&vectors * &values.insert_axis(Axis(0))).dot(&vectors.t());
        assert!(worst(&together, &h) < 1e-9);
    }

    #[test]
    fn same_bits_on_any_number_of_threads() {
        let (h, b) = (spd(1000, 1), random(1000, 150, 2));
        let run =
            |threads| on_threads(threads, || Spd::factor(h.view(), 1e-4).unwrap().solve(b.view()));
        assert_eq!(run(1), run(4));
    }

    #[test]
    fn rank_deficient_and_dead_inputs_are_harmless() {
        let x = random(3, 6, 1);
        let mut h = x.t().dot(&x);
        h.row_mut(2).fill(0.0);
        h.column_mut(2).fill(0.0);
        for h in [h, Array2::zeros((6, 6))] {
            for damping in [0.0, DAMPING] {
                let factor = Spd::factor(h.view(), ridge(h.view(), damping)).unwrap();
                assert!(factor.solve(h.view()).iter().all(|v| v.abs() < 2.0));
            }
        }
    }

    #[test]
    fn indefinite_and_not_finite_matrices_are_numeric_errors() {
        let kind = |h: &Array2<f64>| Spd::factor(h.view(), 0.0).err().map(|e| e.kind());
        let mut h = Array2::eye(4);
        h[(3, 3)] = -2.0;
        assert_eq!(kind(&h), Some(ErrorKind::Numeric));
        h[(3, 3)] = f64::NAN;
        assert_eq!(kind(&h), Some(ErrorKind::Numeric));
        let mut h = Array2::eye(4);
        h[(0, 3)] = f64::NAN;
        assert_eq!(kind(&h), Some(ErrorKind::Numeric));
    }
}
