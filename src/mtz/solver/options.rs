//! Options of the solver.

use super::pair_cost::Metric;

/// Options of the solver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolverOptions {
    /// Whether weights of private inputs compensate for a change of shared ones.
    pub compensates: bool,
    /// The distance between two neurons.
    pub metric: Metric,
    /// Added to Hessians' diagonals, relative to their mean.
    pub damping: f64,
}
