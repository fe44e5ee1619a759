//! What the formulas depend on besides matrices.

use super::pair_cost::Metric;

/// What the formulas depend on besides matrices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolverOptions {
    /// Whether weights from inputs that nets do not share make up for a change of the others.
    pub compensates: bool,
    /// What makes two neurons alike.
    pub metric: Metric,
    /// Added to Hessians' diagonals, relative to their mean.
    pub damping: f64,
}
