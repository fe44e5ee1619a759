//! The graph representation that every stage works on.

pub mod builder;
pub mod graph;
mod index;
pub mod tensor;
pub mod text;

pub use graph::{Attribute, Consumers, Graph, Model, Node, NodeId, Value, ValueId, ValueKind};
pub use tensor::{DataType, Dim, Tensor, TensorType};
