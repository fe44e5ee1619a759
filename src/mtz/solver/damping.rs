//! Damping of Hessians with few rows.

/// Growth of damping per input per row.
const OF_FEW_ROWS: f64 = 0.05;

/// Up to this number of inputs per row, no additional damping is needed.
const MANY_ROWS: f64 = 0.25;

/// The damping of a Hessian of `inputs` inputs and `rows` rows. With few rows per input, least squares
/// overfit the rows; a larger ridge prevents that.
pub(super) fn damping_of(damping: f64, inputs: usize, rows: f64) -> f64 {
    damping.max(OF_FEW_ROWS * (inputs as f64 / rows - MANY_ROWS))
}
