//! Values: the edges of a graph.

use super::ids::{NodeId, ValueId};
use super::tensor::{Tensor, TensorType};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    /// Fed by the caller.
    Input,
    /// A constant stored in the model.
    Initializer(Tensor),
    /// The output of a node.
    Computed(NodeId),
    /// A value of the enclosing graph.
    Captured(ValueId),
    /// A value without a producer.
    Detached,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Unique name.
    pub name: String,
    /// Origin.
    pub kind: ValueKind,
    /// Element type and shape, where known.
    pub ty: Option<TensorType>,
    /// Encoded `TypeProto` of a value that is not a dense tensor (a sequence, a map, an optional…).
    pub foreign_type: Option<Vec<u8>>,
    /// Type of the tensors in a sequence or an optional value, where the file declares it.
    pub element: Option<TensorType>,
}
