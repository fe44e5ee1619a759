//! The graph representation that every stage works on.

pub mod builder;
mod change;
pub mod codes;
mod data_type;
mod factors;
mod graph;
mod half_bytes;
mod ids;
mod index;
mod model;
mod node;
mod order;
mod part;
pub mod samples;
pub mod size;
pub mod tensor;
pub mod text;
mod value;

pub use codes::Codes;
pub use data_type::DataType;
pub(crate) use factors::Factors;
pub use graph::{Consumers, Graph};
pub use ids::{NodeId, ValueId};
pub use model::Model;
pub use node::{Attribute, Node};
pub use size::{Dim, Size};
pub use tensor::{Tensor, TensorType};
pub use value::{Value, ValueKind};
