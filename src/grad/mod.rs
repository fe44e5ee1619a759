//! Reverse-mode differentiation: writes the gradient of a graph as standard ONNX operators.
//!
//! The result runs on any backend. Each operator family has one rule; an operator without a rule is
//! an error that names the node.

mod activation;
mod arithmetic;
mod linear;
mod pool;
mod sensitivity;
mod shape;

use std::collections::{HashMap, HashSet};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Attribute, DataType, Dim, Graph, Node, NodeId, Tensor, ValueId};
use crate::ops::NodeView;

pub use sensitivity::sensitivities;

/// A graph that is being extended by its own gradient.
pub struct Tape {
    /// The graph: the net, then its gradient.
    pub graph: Graph,
    /// Values whose gradient is needed: the wanted ones and all that depend on them.
    active: HashSet<ValueId>,
    grads: HashMap<ValueId, ValueId>,
}

/// Writes the gradients of a node's inputs (`None` where not needed) from those of its outputs.
type Rule = fn(&mut Tape, NodeId, &Node, ValueId) -> Result<Vec<Option<ValueId>>>;

/// Rules by operator.
const RULES: &[(&str, Rule)] = &[
    ("Gemm", linear::gemm),
    ("MatMul", linear::matmul),
    ("Conv", linear::conv),
    ("Relu", activation::relu),
    ("LeakyRelu", activation::leaky_relu),
    ("Sigmoid", activation::sigmoid),
    ("Tanh", activation::tanh),
    ("Clip", activation::clip),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::hard_swish),
    ("Softmax", activation::softmax),
    ("LogSoftmax", activation::log_softmax),
    ("BatchNormalization", activation::batch_norm),
    ("Add", arithmetic::add),
    ("Sub", arithmetic::sub),
    ("Mul", arithmetic::mul),
    ("Div", arithmetic::div),
    ("MaxPool", pool::max_pool),
    ("AveragePool", pool::average_pool),
    ("GlobalAveragePool", pool::global_average_pool),
    ("ReduceMean", pool::reduce_mean),
    ("Identity", shape::identity),
    ("Flatten", shape::reshape),
    ("Reshape", shape::reshape),
    ("Squeeze", shape::reshape),
    ("Unsqueeze", shape::reshape),
    ("Transpose", shape::transpose),
    ("Concat", shape::concat),
];

/// Operators that can be differentiated.
pub fn differentiable_ops() -> Vec<&'static str> {
    RULES.iter().map(|(op, _)| *op).collect()
}

impl Tape {
    /// Prepares to differentiate with respect to `wanted`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the graph has a cycle.
    pub fn new(graph: Graph, wanted: &[ValueId]) -> Result<Self> {
        let mut active: HashSet<ValueId> = wanted.iter().copied().collect();
        for id in graph.topological_order()? {
            let node = graph.node(id);
            if node.reads().any(|v| active.contains(&v)) {
                active.extend(node.outputs.iter().flatten());
            }
        }
        Ok(Tape { graph, active, grads: HashMap::new() })
    }

    /// Adds `gradient` to that of `value`.
    pub fn seed(&mut self, value: ValueId, gradient: ValueId) {
        let sum = match self.grads.get(&value) {
            Some(sum) => self.op("Add", "grad.sum", &[*sum, gradient]),
            None => gradient,
        };
        self.grads.insert(value, sum);
    }

    /// The gradient of `value` so far.
    pub fn gradient(&self, value: ValueId) -> Option<ValueId> {
        self.grads.get(&value).copied()
    }

    /// Propagates the seeded gradients to all wanted values.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] at the first operator without a rule.
    pub fn run(&mut self) -> Result<()> {
        let order = self.graph.topological_order()?;
        for id in order.into_iter().rev() {
            let node = self.graph.node(id).clone();
            let Some(output) = node.output(0) else { continue };
            let Some(gradient) = self.grads.get(&output).copied() else { continue };
            if !node.reads().any(|v| self.active.contains(&v)) {
                continue;
            }
            let rule = RULES.iter().find(|(op, _)| node.is(op)).map(|(_, rule)| *rule);
            let Some(rule) = rule else {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("operator {} has no gradient", node.op),
                )
                .at_node(&node.name));
            };
            let gradients = rule(self, id, &node, gradient).at_node(&node.name)?;
            for (input, gradient) in node.inputs.iter().zip(gradients) {
                if let (Some(input), Some(gradient)) = (input, gradient) {
                    self.seed(*input, gradient);
                }
            }
        }
        Ok(())
    }

    /// Whether the gradient of a node's input is needed.
    fn wants(&self, node: &Node, input: usize) -> bool {
        node.input(input).is_some_and(|v| self.active.contains(&v))
    }

    /// The `index`-th input of a node.
    fn input(&self, node: &Node, index: usize) -> Result<ValueId> {
        node.input(index)
            .ok_or_else(|| Error::new(ErrorKind::Format, format!("input {index} is missing")))
    }

    fn op(&mut self, op: &str, name: &str, inputs: &[ValueId]) -> ValueId {
        self.graph.add_op(op, name, inputs, [])
    }

    fn op_with<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: [(&'static str, Attribute); N],
    ) -> ValueId {
        self.graph.add_op(op, "grad", inputs, attributes)
    }

    /// A float constant of the given shape.
    fn floats(&mut self, dims: &[usize], values: Vec<f32>) -> Result<ValueId> {
        let array = ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(dims), values).map_err(|e| {
            Error::new(ErrorKind::Format, "a constant does not fill its shape").because(e)
        })?;
        Ok(self.graph.add_initializer("grad.constant", Tensor::from_f32(&array)))
    }

    fn scalar(&mut self, value: f32) -> ValueId {
        let array = ndarray::arr0(value).into_dyn();
        self.graph.add_initializer("grad.constant", Tensor::from_f32(&array))
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        self.graph.add_initializer("grad.constant", Tensor::from_i64(vec![values.len()], values))
    }

    fn cast(&mut self, value: ValueId) -> ValueId {
        let to = Attribute::Int(i64::from(DataType::F32.code()));
        self.op_with("Cast", &[value], [("to", to)])
    }

    /// 1 where `a` relates to `b`, else 0.
    fn indicator(&mut self, relation: &str, a: ValueId, b: ValueId) -> ValueId {
        let holds = self.op(relation, "grad.mask", &[a, b]);
        self.cast(holds)
    }

    /// The shape of a value of the net.
    fn shape(&self, node: NodeId, value: ValueId) -> Result<Vec<Dim>> {
        NodeView::new(&self.graph, node, &[])
            .type_of(value)
            .and_then(|t| t.shape)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "a shape is not known"))
    }

    /// Fixed sizes of the axes behind batch and channels.
    fn extents(&self, node: NodeId, value: ValueId) -> Result<Vec<usize>> {
        let shape = self.shape(node, value)?;
        shape.iter().skip(2).map(Dim::known).collect::<Option<_>>().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "spatial extents are known only at run time")
        })
    }
}

#[cfg(test)]
mod tests;
