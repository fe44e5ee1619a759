//! Matrix products that give the same bits on any number of threads.
//!
//! OpenBLAS splits one product differently for every thread count and rounds differently with it
//! (seen with `dgemm` at n = 1000 and with every size of `dpotrf`). So OpenBLAS keeps to one thread
//! here, and rayon spreads a product over strips whose width never depends on the thread count.
//! Results still depend on the machine: OpenBLAS picks its kernels by the CPU.

use std::ffi::c_int;
use std::sync::Once;

use ndarray::linalg::general_mat_mul;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, LinalgScalar, Slice, s};

/// Rows of a strip. A strip of the upper triangle carries `STRIP²/2` needless products: 256 wastes
/// 6 % at n = 4608, keeps OpenBLAS within a tenth of its best speed and leaves 18 strips to share.
const STRIP: usize = 256;

/// Columns of the right factor in one call to OpenBLAS.
const PANEL: usize = 1024;

/// Keeps OpenBLAS on the calling thread from now on, in the whole process.
pub fn single_threaded_blas() {
    // The environment variable would have to be set before the process starts, and neither ndarray
    // nor ndarray-linalg offers the call.
    #[allow(unsafe_code)]
    unsafe extern "C" {
        // SAFETY: in every OpenBLAS; takes any count, stores it under its own lock.
        safe fn openblas_set_num_threads(count: c_int);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| openblas_set_num_threads(1));
}

/// `left · right`.
///
/// # Panics
/// Where the inner sizes differ.
pub fn times<T>(left: ArrayView2<T>, right: ArrayView2<T>) -> Array2<T>
where
    T: LinalgScalar + Send + Sync,
{
    let mut product = Array2::zeros((left.nrows(), right.ncols()));
    add_times(T::one(), left, right, product.view_mut());
    product
}

/// `sum += factor · left · right`.
///
/// # Panics
/// Where the sizes do not fit.
pub fn add_times<T>(factor: T, left: ArrayView2<T>, right: ArrayView2<T>, mut sum: ArrayViewMut2<T>)
where
    T: LinalgScalar + Send + Sync,
{
    single_threaded_blas();
    let strips = sum.axis_chunks_iter_mut(Axis(0), STRIP).into_par_iter().enumerate();
    strips.for_each(|(i, mut strip)| {
        let rows = left.slice(s![i * STRIP..i * STRIP + strip.nrows(), ..]);
        let panels = strip.axis_chunks_iter_mut(Axis(1), PANEL).into_par_iter().enumerate();
        panels.for_each(|(j, mut tile)| {
            let columns = right.slice(s![.., j * PANEL..j * PANEL + tile.ncols()]);
            general_mat_mul(factor, &rows, &columns, T::one(), &mut tile);
        });
    });
}

/// `sum += rowsᵀ · rows`, upper triangle only (parts of the lower one are touched too).
///
/// Products are taken in single precision and added in double precision.
///
/// # Panics
/// Where `sum` is not square with one row per column of `rows`.
pub fn add_upper_gram(rows: ArrayView2<f32>, mut sum: ArrayViewMut2<f64>) {
    single_threaded_blas();
    let strips = sum.axis_chunks_iter_mut(Axis(0), STRIP).into_par_iter().enumerate();
    strips.for_each(|(i, mut strip)| {
        let start = i * STRIP;
        let left = rows.slice(s![.., start..start + strip.nrows()]);
        strip.slice_axis_inplace(Axis(1), Slice::from(start..));
        add_widened(&left.t().dot(&rows.slice(s![.., start..])), strip);
    });
}

/// `sum += leftᵀ · right`, in single precision and added in double precision.
///
/// # Panics
/// Where the sizes do not fit.
pub fn add_cross(left: ArrayView2<f32>, right: ArrayView2<f32>, mut sum: ArrayViewMut2<f64>) {
    single_threaded_blas();
    let strips = sum.axis_chunks_iter_mut(Axis(0), STRIP).into_par_iter().enumerate();
    strips.for_each(|(i, strip)| {
        let left = left.slice(s![.., i * STRIP..i * STRIP + strip.nrows()]);
        add_widened(&left.t().dot(&right), strip);
    });
}

fn add_widened(product: &Array2<f32>, mut sum: ArrayViewMut2<f64>) {
    sum.zip_mut_with(product, |total, term| *total += f64::from(*term));
}

/// Copies the upper triangle of a square matrix over the lower one.
pub fn mirror_upper(matrix: &mut Array2<f64>) {
    for i in 1..matrix.nrows() {
        let (above, mut below) = matrix.view_mut().split_at(Axis(0), i);
        below.slice_mut(s![0, ..i]).assign(&above.slice(s![.., i]));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A matrix of numbers between −1 and 1.
    pub(crate) fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0..1.0))
    }

    /// Runs `work` on `threads` rayon threads.
    pub(crate) fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    fn naive(left: &Array2<f64>, right: &Array2<f64>) -> Array2<f64> {
        Array2::from_shape_fn((left.nrows(), right.ncols()), |(i, j)| {
            (0..left.ncols()).map(|k| left[(i, k)] * right[(k, j)]).sum()
        })
    }

    fn close(a: &Array2<f64>, b: &Array2<f64>, tolerance: f64) -> bool {
        a.dim() == b.dim() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= tolerance)
    }

    #[test]
    fn products_equal_the_definition_across_strip_and_panel_edges() {
        let (a, b) = (random(300, 17, 1), random(17, 1100, 2));
        assert!(close(&times(a.view(), b.view()), &naive(&a, &b), 1e-12));
    }

    #[test]
    fn gram_and_cross_equal_the_definition() {
        let (x, y) = (random(40, 300, 3), random(40, 9, 4));
        let (x32, y32) = (x.mapv(|v| v as f32), y.mapv(|v| v as f32));
        let mut gram = Array2::zeros((300, 300));
        add_upper_gram(x32.view(), gram.view_mut());
        mirror_upper(&mut gram);
        assert!(close(&gram, &naive(&x.t().to_owned(), &x), 1e-4));
        let mut cross = Array2::zeros((300, 9));
        add_cross(x32.view(), y32.view(), cross.view_mut());
        assert!(close(&cross, &naive(&x.t().to_owned(), &y), 1e-4));
    }

    #[test]
    fn same_bits_on_any_number_of_threads() {
        let (a, b) = (random(700, 600, 5), random(600, 1500, 6));
        let a32 = a.mapv(|v| v as f32);
        let run = |threads| {
            on_threads(threads, || {
                let mut gram = Array2::zeros((600, 600));
                add_upper_gram(a32.view(), gram.view_mut());
                (times(a.view(), b.view()), gram)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
