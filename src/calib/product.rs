//! Matrix products that give the same bits on any number of threads.
//!
//! OpenBLAS splits one product differently for every thread count and rounds differently with it
//! (seen with `dgemm` at n = 1000 and with every size of `dpotrf`). So OpenBLAS keeps to one thread
//! here, and rayon spreads a product over strips whose width never depends on the thread count.
//! Results still depend on the machine: OpenBLAS picks its kernels by the CPU.

use std::ffi::c_int;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::linalg::general_mat_mul;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, LinalgScalar, Slice, Zip, s};

use super::memory;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::counted;

/// Rows of a strip: keeps OpenBLAS within a tenth of its best speed and leaves 18 strips to share at
/// n = 4608.
const STRIP: usize = 256;

/// Columns of the right factor in one call to OpenBLAS.
const PANEL: usize = 1024;

/// Side of the squares on a Gram matrix's diagonal. BLAS computes only half of each square, so nothing is
/// computed twice.
const TILE: usize = 512;

/// Rows of a product on one thread: enough to outweigh the cost of a call, and few enough for several
/// threads to share a narrow matrix, which has only one tile.
const PIECE: usize = 2048;

/// Bytes of the buffer that OpenBLAS takes for each thread that computes products.
const BUFFER: usize = (128 << 20) + (1 << 16);

/// Checks, until it succeeds once, that each thread finds memory for its buffer of OpenBLAS, which asks for it
/// again and again, for ever, where a limit denies it.
///
/// # Errors
/// [`ErrorKind::Memory`] where there is too little.
pub(crate) fn check_buffers() -> Result<()> {
    static FOUND: AtomicBool = AtomicBool::new(false);
    if !FOUND.load(Ordering::Relaxed) {
        find_buffers(rayon::current_num_threads(), BUFFER)?;
        FOUND.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Reserves so many buffers at once, and gives them back.
fn find_buffers(count: usize, size: usize) -> Result<()> {
    memory::try_blocks(count, size).map_err(|e| {
        let message = format!(
            "matrix products on {} find no memory for buffers of {} MiB each",
            counted(count, "thread"),
            size >> 20
        );
        Error::new(ErrorKind::Memory, message)
            .because(e)
            .hint(Hint::from("allow more memory, or fewer ").option("threads"))
    })
}

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

/// Some rows and columns of a matrix, in the given order, row by row in memory.
///
/// # Panics
/// Where there is no such row or column.
pub fn submatrix(matrix: ArrayView2<f64>, rows: &[usize], columns: &[usize]) -> Array2<f64> {
    let mut part = Array2::zeros((rows.len(), columns.len()));
    Zip::from(part.rows_mut()).and(rows).par_for_each(|mut to, row| {
        let from = matrix.row(*row);
        to.iter_mut().zip(columns).for_each(|(to, column)| *to = from[*column]);
    });
    part
}

/// `sum += rowsᵀ · rows`, upper triangle only.
///
/// Products are taken in single precision and added in double precision.
///
/// # Panics
/// Where `sum` is not square with one row per column of `rows`.
pub fn add_upper_gram(rows: ArrayView2<f32>, mut sum: ArrayViewMut2<f64>) {
    single_threaded_blas();
    let strips = sum.axis_chunks_iter_mut(Axis(0), TILE).into_par_iter().enumerate();
    strips.for_each(|(i, strip)| {
        let (start, end) = (i * TILE, i * TILE + strip.nrows());
        let (mut diagonal, mut right) = strip.split_at(Axis(1), end);
        diagonal.slice_axis_inplace(Axis(1), Slice::from(start..));
        let products = pieces(rows, |piece| {
            let own = piece.slice(s![.., start..end]);
            (upper_gram(own), own.t().dot(&piece.slice(s![.., end..])))
        });
        for (on_diagonal, beside) in products {
            add_upper(&on_diagonal, diagonal.view_mut());
            add_widened(&beside, right.view_mut());
        }
    });
}

/// `sum += leftᵀ · right`, in single precision and added in double precision.
///
/// # Panics
/// Where the sizes do not fit.
pub fn add_cross(left: ArrayView2<f32>, right: ArrayView2<f32>, mut sum: ArrayViewMut2<f64>) {
    single_threaded_blas();
    let strips = sum.axis_chunks_iter_mut(Axis(0), TILE).into_par_iter().enumerate();
    strips.for_each(|(i, mut strip)| {
        let own = left.slice(s![.., i * TILE..i * TILE + strip.nrows()]);
        let halves = own.axis_chunks_iter(Axis(0), PIECE).into_par_iter();
        let products: Vec<Array2<f32>> = halves
            .zip(right.axis_chunks_iter(Axis(0), PIECE))
            .map(|(left, right)| left.t().dot(&right))
            .collect();
        products.iter().for_each(|product| add_widened(product, strip.view_mut()));
    });
}

/// Applies `work` to each piece of some rows; returns the results in order.
fn pieces<R: Send>(
    rows: ArrayView2<f32>,
    work: impl Fn(ArrayView2<f32>) -> R + Sync + Send,
) -> Vec<R> {
    rows.axis_chunks_iter(Axis(0), PIECE).into_par_iter().map(work).collect()
}

/// The upper triangle of `rowsᵀ · rows`; the rest is zero.
fn upper_gram(rows: ArrayView2<f32>) -> Array2<f32> {
    // ndarray has no product that computes only one half.
    #[allow(unsafe_code)]
    unsafe extern "C" {
        fn cblas_ssyrk(
            order: c_int,
            triangle: c_int,
            transposed: c_int,
            n: c_int,
            k: c_int,
            alpha: f32,
            a: *const f32,
            row_of_a: c_int,
            beta: f32,
            c: *mut f32,
            row_of_c: c_int,
        );
    }
    const ROW_MAJOR: c_int = 101;
    const TRANSPOSED: c_int = 112;
    const UPPER: c_int = 121;
    let (k, n) = rows.dim();
    let mut product = Array2::<f32>::zeros((n, n));
    let stride = usize::try_from(rows.strides()[0]).unwrap_or(0).max(n);
    let sizes = [n, k, stride].map(c_int::try_from);
    let runs = n < 2 || rows.strides()[1] == 1;
    let [Ok(wide), Ok(high), Ok(stride)] = sizes else { return rows.t().dot(&rows) };
    if k == 0 || n == 0 || !runs || (k > 1 && rows.strides()[0] < n as isize) {
        return rows.t().dot(&rows);
    }
    let (source, target) = (rows.as_ptr(), product.as_mut_ptr());
    #[allow(unsafe_code)]
    // SAFETY: `source` points to k rows of n numbers, each a run in memory, `stride` apart; `target`
    // to n rows of n, which nothing else refers to. All sizes fit into the call's integers.
    unsafe {
        cblas_ssyrk(
            ROW_MAJOR, UPPER, TRANSPOSED, wide, high, 1.0, source, stride, 0.0, target, wide,
        );
    }
    product
}

/// Adds the upper triangle of a square product.
fn add_upper(product: &Array2<f32>, mut sum: ArrayViewMut2<f64>) {
    for (start, (mut sum, term)) in sum.rows_mut().into_iter().zip(product.rows()).enumerate() {
        let term = term.slice_move(s![start..]);
        sum.slice_mut(s![start..]).zip_mut_with(&term, |total, term| *total += f64::from(*term));
    }
}

fn add_widened(product: &Array2<f32>, mut sum: ArrayViewMut2<f64>) {
    sum.zip_mut_with(product, |total, term| *total += f64::from(*term));
}

/// The symmetric matrix with the upper triangle of `upper`, times `factor`.
pub fn symmetric(upper: ArrayView2<f64>, factor: f64) -> Array2<f64> {
    /// Side of the squares that are transposed at once, while they are in the cache.
    const SQUARE: usize = 64;
    let mut whole = Array2::zeros(upper.dim());
    let strips = whole.axis_chunks_iter_mut(Axis(0), SQUARE).into_par_iter().enumerate();
    strips.for_each(|(i, mut strip)| {
        let start = i * SQUARE;
        for (j, mut square) in strip.axis_chunks_iter_mut(Axis(1), SQUARE).enumerate() {
            let (height, width) = square.dim();
            let columns = j * SQUARE..j * SQUARE + width;
            if j > i {
                let source = upper.slice(s![start..start + height, columns]);
                square.zip_mut_with(&source, |to, from| *to = factor * from);
            } else {
                let source = upper.slice(s![columns, start..start + height]);
                square.zip_mut_with(&source.t(), |to, from| *to = factor * from);
            }
        }
        let rows = start..start + strip.nrows();
        for (row, n) in strip.rows_mut().into_iter().zip(rows.clone()) {
            let own = upper.slice(s![n, n..rows.end]);
            let mut right = row;
            right.slice_mut(s![n..rows.end]).zip_mut_with(&own, |to, from| *to = factor * from);
        }
    });
    whole
}

/// Copies the upper triangle of a square matrix into the lower one.
pub fn complete(matrix: &mut Array2<f64>) {
    /// Rows that are filled at once.
    const ROWS: usize = 64;
    for start in (0..matrix.nrows()).step_by(ROWS) {
        let (above, mut below) = matrix.view_mut().split_at(Axis(0), start);
        let end = below.nrows().min(ROWS);
        let left = below.slice_mut(s![..end, ..start]);
        let source = above.slice(s![.., start..start + end]);
        Zip::from(left.reversed_axes()).and(&source).par_for_each(|to, from| *to = *from);
        for row in 1..end {
            for column in 0..row {
                below[(row, start + column)] = below[(column, start + row)];
            }
        }
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
    fn buffers_that_find_no_memory_are_an_error() {
        assert!(find_buffers(3, 1 << 10).is_ok() && check_buffers().is_ok());
        let error = find_buffers(1, usize::MAX / 2 + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
        assert!(error.to_string().starts_with("matrix products on 1 thread find no memory"));
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
        let gram = symmetric(gram.view(), 1.0);
        assert!(close(&gram, &naive(&x.t().to_owned(), &x), 1e-4));
        let mut cross = Array2::zeros((300, 9));
        add_cross(x32.view(), y32.view(), cross.view_mut());
        assert!(close(&cross, &naive(&x.t().to_owned(), &y), 1e-4));
    }

    #[test]
    fn gram_of_strided_rows_and_of_several_tiles_and_pieces() {
        let x = random(2100, 600, 7).mapv(|v| v as f32);
        let wide = x.mapv(f64::from);
        for (rows, wanted) in [(x.view(), wide.t().dot(&wide)), (x.t(), wide.dot(&wide.t()))] {
            let mut gram = Array2::zeros((rows.ncols(), rows.ncols()));
            add_upper_gram(rows, gram.view_mut());
            assert!(close(&symmetric(gram.view(), 1.0), &wanted, 1e-2));
        }
        let (rows, some) = (x.slice(s![..;2, 30..70]), wide.slice(s![..;2, 30..70]));
        let mut gram = Array2::zeros((40, 40));
        add_upper_gram(rows, gram.view_mut());
        assert!(close(&symmetric(gram.view(), 2.0), &(some.t().dot(&some) * 2.0), 1e-2));
    }

    #[test]
    fn symmetric_matrices_repeat_the_upper_triangle() {
        for n in [1, 64, 130] {
            let upper = random(n, n, 1);
            let whole = symmetric(upper.view(), 3.0);
            let mut completed = upper.clone();
            complete(&mut completed);
            assert_eq!(completed * 3.0, whole);
            assert!(
                whole.indexed_iter().all(|((i, j), v)| *v == 3.0 * upper[(i.min(j), i.max(j))])
            );
        }
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
