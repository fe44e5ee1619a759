//! Checks the shapes of a problem's matrices.

use ndarray::Array1;

use crate::error::{Error, ErrorKind, Result};

/// One net's side of a problem.
pub(super) struct Side<'p> {
    /// Rows and columns of the weights.
    pub(super) weights: (usize, usize),
    /// Number of inputs of the Hessian, or of each of the Hessians.
    pub(super) inputs: usize,
    /// Number of Hessians, if every row has its own.
    pub(super) hessians: Option<usize>,
    pub(super) sensitivities: Option<&'p Array1<f64>>,
}

/// Checks that both sides of a problem fit together.
///
/// # Errors
/// [`ErrorKind::Usage`] where they do not; [`ErrorKind::Numeric`] where a sensitivity is negative or not
/// finite.
pub(super) fn check(sides: [Side<'_>; 2]) -> Result<()> {
    let inputs = sides[0].weights.1;
    for side in &sides {
        let (rows, columns) = side.weights;
        let all = |count: Option<usize>| count.is_none_or(|count| count == rows);
        if columns != inputs || side.inputs != inputs {
            return Err(misshapen(format!(
                "weights for {columns} inputs, a Hessian over {} and other weights for {inputs}",
                side.inputs
            )));
        }
        if !all(side.hessians) || !all(side.sensitivities.map(Array1::len)) {
            return Err(misshapen(format!("{rows} rows of weights and other numbers for them")));
        }
        if side.sensitivities.into_iter().flatten().any(|s| !s.is_finite() || *s < 0.0) {
            let message = "a neuron's sensitivity is not a number ≥ 0";
            return Err(Error::new(ErrorKind::Numeric, message));
        }
    }
    Ok(())
}

/// Checks that every pair names a row of each side.
///
/// # Errors
/// [`ErrorKind::Usage`] where one does not.
pub(super) fn check_pairs(pairs: &[(usize, usize)], (rows, columns): (usize, usize)) -> Result<()> {
    match pairs.iter().find(|(i, j)| *i >= rows || *j >= columns) {
        Some((i, j)) => Err(misshapen(format!("a pair ({i}, {j}) of {rows} and {columns} rows"))),
        None => Ok(()),
    }
}

/// The error if a problem's matrices do not fit together.
pub(super) fn misshapen(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, format!("a layer's matrices do not fit together: {what}"))
        .hint("give weights as rows × inputs, and Hessians over these inputs")
}
