//! The graph representation that every stage works on.

pub mod builder;
pub mod codes;
pub mod graph;
mod index;
pub mod size;
pub mod tensor;
pub mod text;

pub use codes::Codes;
pub use graph::{Attribute, Consumers, Graph, Model, Node, NodeId, Value, ValueId, ValueKind};
pub use size::Size;
pub use tensor::{DataType, Dim, Tensor, TensorType};
