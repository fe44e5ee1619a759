//! Pairs the inputs of two layers by the layers' weights alone.
//!
//! If the producers of inputs do not correspond, only their consumers tell inputs apart. First,
//! inputs are compared by the distribution of their weights over rows, which needs no pairs of rows.
//! Then rows are compared by their weights for paired inputs, and inputs by their weights in paired
//! rows, in turns.

use ndarray::{Array2, Array3, Axis};

use crate::calib::product::times;
use crate::error::Result;

use super::{Matcher, Optimal, Share};

/// Points at which distributions of weights are compared.
const QUANTILES: usize = 32;

/// Limit of rounds of pairing rows and inputs.
const TURNS: usize = 6;

/// As many pairs as there can be.
const ALL: Share = Share::Fraction(1.0);

/// Distances between the inputs of two layers, inputs × inputs. `a` and `b` are the layers' weights
/// as [inputs, rows, weights of a row for an input]; `rows` are the pairs of rows, if they are known.
///
/// # Errors
/// [`crate::error::ErrorKind::Numeric`] where a weight is not finite.
pub(crate) fn dissimilarity(
    a: &Array3<f32>,
    b: &Array3<f32>,
    rows: Option<&[(usize, usize)]>,
) -> Result<Array2<f64>> {
    if let Some(rows) = rows {
        return Ok(by_rows(a, b, rows));
    }
    let mut cost = distances(&profiles(a), &profiles(b));
    let mut last = Vec::new();
    for _ in 0..TURNS {
        let inputs = least_cost_pairs(&cost, ALL)?;
        let rows = least_cost_pairs(&by_inputs(a, b, &inputs), ALL)?;
        if rows == last {
            break;
        }
        cost = by_rows(a, b, &rows);
        last = rows;
    }
    Ok(cost)
}

/// The pairs with the least total cost.
pub(crate) fn least_cost_pairs(cost: &Array2<f64>, share: Share) -> Result<Vec<(usize, usize)>> {
    Ok(Optimal.pair(cost.view(), share)?.pairs().to_vec())
}

/// Per input, its weights in ascending order, at [`QUANTILES`] points.
fn profiles(weights: &Array3<f32>) -> Array2<f32> {
    let (inputs, rows, each) = weights.dim();
    let mut profiles = Array2::zeros((inputs, each * QUANTILES));
    for (input, mut profile) in weights.outer_iter().zip(profiles.outer_iter_mut()) {
        for (n, column) in input.axis_iter(Axis(1)).enumerate() {
            let mut sorted = column.to_vec();
            sorted.sort_unstable_by(f32::total_cmp);
            for point in 0..QUANTILES {
                let at = point as f32 / (QUANTILES - 1) as f32 * rows.saturating_sub(1) as f32;
                let (below, part) = (at.floor() as usize, at.fract());
                let (Some(low), high) = (sorted.get(below), sorted.get(below + 1)) else {
                    continue;
                };
                profile[n * QUANTILES + point] = low + part * (high.unwrap_or(low) - low);
            }
        }
    }
    profiles
}

/// Distances of inputs in the weights of paired rows.
fn by_rows(a: &Array3<f32>, b: &Array3<f32>, rows: &[(usize, usize)]) -> Array2<f64> {
    let (left, right): (Vec<usize>, Vec<usize>) = rows.iter().copied().unzip();
    distances(&flat(a.select(Axis(1), &left)), &flat(b.select(Axis(1), &right)))
}

/// Distances of rows in their weights for paired inputs.
fn by_inputs(a: &Array3<f32>, b: &Array3<f32>, inputs: &[(usize, usize)]) -> Array2<f64> {
    let (left, right): (Vec<usize>, Vec<usize>) = inputs.iter().copied().unzip();
    let rows_first = |weights: &Array3<f32>, inputs: &[usize]| {
        flat(weights.select(Axis(0), inputs).permuted_axes([1, 0, 2]))
    };
    distances(&rows_first(a, &left), &rows_first(b, &right))
}

fn flat(weights: Array3<f32>) -> Array2<f32> {
    let (n, m, each) = weights.dim();
    let values: Vec<f32> = weights.iter().copied().collect();
    Array2::from_shape_vec((n, m * each), values).unwrap_or_default()
}

/// Squared distances of the rows of `a` from those of `b`.
fn distances(a: &Array2<f32>, b: &Array2<f32>) -> Array2<f64> {
    let squares = |m: &Array2<f32>| -> Vec<f64> {
        m.outer_iter().map(|row| f64::from(row.dot(&row))).collect()
    };
    let (a_squares, b_squares) = (squares(a), squares(b));
    let product = times(a.view(), b.t());
    Array2::from_shape_fn(product.dim(), |(i, j)| {
        (a_squares[i] + b_squares[j] - 2.0 * f64::from(product[(i, j)])).max(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(dim: (usize, usize, usize), seed: u64) -> Array3<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array3::from_shape_fn(dim, |_| rng.random::<f32>() - 0.5)
    }

    fn order(n: usize, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order
    }

    #[test]
    fn inputs_in_another_order_are_found_again_whatever_the_order_of_rows() {
        let a = random((17, 23, 3), 1);
        let (inputs, rows) = (order(17, 2), order(23, 3));
        let b = a.select(Axis(0), &inputs).select(Axis(1), &rows);
        let pairs = least_cost_pairs(&dissimilarity(&a, &b, None).unwrap(), ALL).unwrap();
        assert!(pairs.iter().all(|(i, j)| inputs[*j] == *i));
    }

    #[test]
    fn noise_and_wider_layers_do_not_hide_them() {
        let a = random((9, 30, 2), 4);
        let (inputs, rows) = (order(9, 5), order(30, 6));
        let noise = random((9, 30, 2), 7) * 0.1;
        let b = (&a + &noise).select(Axis(0), &inputs).select(Axis(1), &rows);
        let mut wide = random((12, 40, 2), 8);
        wide.slice_mut(ndarray::s![..9, ..30, ..]).assign(&b);
        let pairs = least_cost_pairs(&dissimilarity(&a, &b, None).unwrap(), ALL).unwrap();
        assert!(pairs.iter().all(|(i, j)| inputs[*j] == *i));
        let same: Vec<(usize, usize)> = rows.iter().enumerate().map(|(j, i)| (*i, j)).collect();
        let pairs = least_cost_pairs(&dissimilarity(&a, &wide, Some(&same)).unwrap(), ALL).unwrap();
        assert!(pairs.iter().all(|(i, j)| inputs.get(*j) == Some(i)));
    }

    #[test]
    fn known_rows_tell_inputs_apart_that_are_distributed_alike() {
        // Two inputs with the same weights, which go to different rows.
        let a = Array3::from_shape_vec((2, 2, 1), vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let cost = dissimilarity(&a, &a, Some(&[(0, 1), (1, 0)])).unwrap();
        assert_eq!(least_cost_pairs(&cost, ALL).unwrap(), [(0, 1), (1, 0)]);
    }
}
