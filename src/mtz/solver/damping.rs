//! How much damping Hessians of few rows need.

/// What damping grows by for each input per row.
const OF_FEW_ROWS: f64 = 0.05;

/// Inputs per row up to which rows are many.
const MANY_ROWS: f64 = 0.25;

/// The damping of a Hessian of `inputs` inputs of which so many rows were seen. With hardly more rows than
/// inputs, least squares follow what is peculiar to these rows: a larger ridge keeps them from that.
pub(super) fn damping_of(damping: f64, inputs: usize, rows: f64) -> f64 {
    damping.max(OF_FEW_ROWS * (inputs as f64 / rows - MANY_ROWS))
}
