//! Scopes: which equal parameters are one parameter.

use crate::ir::ValueId;
use crate::mtz::joint::Neuron;

/// The owner of a parameter: equal parameters are stored once if their scopes are equal, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// The parameter of one task.
    Own(usize, ValueId),
    /// The common part, of this number, of weights with differences.
    Base(u32),
    /// Parameters of shared neurons: the first neuron, and a name for the place of the node that reads
    /// them, which is the same in every task.
    Shared(Neuron, String),
}
