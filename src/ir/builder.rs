//! Small models written as code, for tests and benchmarks.
//!
//! ```
//! use onnx_zip::ir::builder::GraphBuilder;
//!
//! let mut b = GraphBuilder::new("net", 13);
//! let x = b.input("x", "batch,3,8,8");
//! let w = b.weights("conv.weight", &[4, 3, 3, 3]);
//! let y = b.op("Conv", "conv", &[x, w], [("pads", [1, 1, 1, 1].into())]);
//! let z = b.op("Relu", "relu", &[y], []);
//! let model = b.build(&[z]);
//! assert_eq!(model.opset(), 13);
//! ```

use ndarray::{ArrayD, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Attribute, DataType, Dim, Graph, Model, Tensor, TensorType, ValueId};

/// Version of the IR format of built models.
const IR_VERSION: i64 = 8;

/// Builds a model value by value.
pub struct GraphBuilder {
    model: Model,
    rng: ChaCha8Rng,
}

impl GraphBuilder {
    /// An empty model that uses version `opset` of the standard operator set.
    pub fn new(name: &str, opset: i64) -> Self {
        let model = Model {
            name: name.to_owned(),
            ir_version: IR_VERSION,
            opsets: [(String::new(), opset)].into(),
            graph: Graph::new(name),
            ..Model::default()
        };
        GraphBuilder { model, rng: ChaCha8Rng::seed_from_u64(0) }
    }

    /// A float input; see [`shape`] for how `dims` is written.
    pub fn input(&mut self, name: &str, dims: &str) -> ValueId {
        self.typed_input(name, DataType::F32, dims)
    }

    /// An input of any type.
    pub fn typed_input(&mut self, name: &str, dtype: DataType, dims: &str) -> ValueId {
        self.model.graph.add_input(name, TensorType { dtype, shape: Some(shape(dims)) })
    }

    /// A float constant of seeded random elements in ±0.5: the same in every build of the model.
    pub fn weights(&mut self, name: &str, dims: &[usize]) -> ValueId {
        self.uniform(name, dims, -0.5, 0.5)
    }

    /// A float constant of seeded random elements between 0.5 and 1.5, fit for scales and variances.
    pub fn positive(&mut self, name: &str, dims: &[usize]) -> ValueId {
        self.uniform(name, dims, 0.5, 1.5)
    }

    fn uniform(&mut self, name: &str, dims: &[usize], low: f32, high: f32) -> ValueId {
        let rng = &mut self.rng;
        let array = ArrayD::from_shape_simple_fn(IxDyn(dims), || rng.random_range(low..high));
        self.model.graph.add_initializer(name, Tensor::from_f32(&array))
    }

    /// A vector of integers.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> ValueId {
        self.constant(name, Tensor::from_i64(vec![values.len()], values))
    }

    /// A float scalar.
    pub fn scalar(&mut self, name: &str, value: f32) -> ValueId {
        self.constant(name, Tensor::from_f32(&ndarray::arr0(value).into_dyn()))
    }

    /// Any constant.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.model.graph.add_initializer(name, tensor)
    }

    /// A node of the standard operator set with one output, which is called `name` like the node.
    pub fn op<const N: usize>(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[ValueId],
        attributes: [(&'static str, Attribute); N],
    ) -> ValueId {
        self.model.graph.add_op(op, name, inputs, attributes)
    }

    /// The graph so far, for changes beyond this builder.
    pub fn graph(&mut self) -> &mut Graph {
        &mut self.model.graph
    }

    /// The model with these outputs.
    pub fn build(mut self, outputs: &[ValueId]) -> Model {
        self.model.graph.outputs = outputs.to_vec();
        self.model
    }
}

/// Dimensions from text such as `batch,3,?,8`: a number is a fixed size, `?` an unknown one, anything
/// else a symbol. Empty text is the shape of a scalar.
pub fn shape(dims: &str) -> Vec<Dim> {
    let dim = |text: &str| match (text, text.parse()) {
        ("?", _) => Dim::Unknown,
        (_, Ok(size)) => Dim::Known(size),
        (name, Err(_)) => Dim::Symbol(name.to_owned()),
    };
    dims.split(',').map(str::trim).filter(|text| !text.is_empty()).map(dim).collect()
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Attribute::Int(value)
    }
}

impl From<f32> for Attribute {
    fn from(value: f32) -> Self {
        Attribute::Float(value)
    }
}

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Attribute::Str(value.as_bytes().to_vec())
    }
}

impl<const N: usize> From<[i64; N]> for Attribute {
    fn from(values: [i64; N]) -> Self {
        Attribute::Ints(values.to_vec())
    }
}

impl<const N: usize> From<[f32; N]> for Attribute {
    fn from(values: [f32; N]) -> Self {
        Attribute::Floats(values.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_from_text() {
        let batch = Dim::Symbol("batch".into());
        assert_eq!(shape("batch, 3,?"), [batch, Dim::Known(3), Dim::Unknown]);
        assert_eq!(shape(""), []);
    }

    #[test]
    fn weights_are_the_same_in_every_build() {
        let build = || {
            let mut b = GraphBuilder::new("net", 13);
            let (a, c) = (b.weights("a", &[2, 2]), b.positive("c", &[3]));
            b.build(&[a, c])
        };
        assert_eq!(build(), build());
        let graph = build().graph;
        let a = graph.initializer(graph.outputs[0]).unwrap();
        assert!(a.to_f32().unwrap().iter().all(|v| v.abs() <= 0.5));
    }
}
