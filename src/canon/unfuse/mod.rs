//! Fused operators of ONNX Runtime become what they are made of, wherever that computes the same.
//!
//! Optimised files hold operators of the domain `com.microsoft`, through which no channels could be
//! followed. A node with an input or output that a rule does not cover stays as it is.

mod attention;
mod elementary;

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::{CanonOptions, rewire, types};

/// The values of a node's outputs, `None` for those that nothing reads.
type Outputs = Option<Vec<Option<ValueId>>>;

type Rule = fn(&mut Parts<'_>, &Node) -> Outputs;

const RULES: &[(&str, Rule)] = &[
    ("Gelu", elementary::gelu),
    ("BiasGelu", elementary::gelu),
    ("FastGelu", elementary::fast_gelu),
    ("QuickGelu", elementary::quick_gelu),
    ("SimplifiedLayerNormalization", elementary::simplified_norm),
    ("SkipLayerNormalization", elementary::skip_norm),
    ("SkipSimplifiedLayerNormalization", elementary::skip_simplified_norm),
    ("EmbedLayerNormalization", elementary::embed_norm),
    ("FusedMatMul", elementary::product),
    ("Attention", attention::attention),
    ("MultiHeadAttention", attention::multi_head),
];

/// The domain of ONNX Runtime's own operators.
const DOMAIN: &str = "com.microsoft";

/// Operators that ONNX Runtime puts into the standard domain, although they are in no standard.
const MISPLACED: &[&str] = &["SimplifiedLayerNormalization"];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let opset = model.opset();
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= unfuse(graph, id, opset).is_some();
    }
    Ok(modified)
}

fn unfuse(graph: &mut Graph, id: NodeId, opset: i64) -> Option<()> {
    let node = graph.node(id).clone();
    let is_fused = node.domain == DOMAIN || MISPLACED.iter().any(|op| node.is(op));
    let (_, rule) = RULES.iter().find(|(op, _)| is_fused && *op == node.op)?;
    let readers = graph.consumers();
    let is_read = |value: &ValueId| !rewire::is_unused(graph, &readers, *value);
    let wanted: Vec<bool> = node.outputs.iter().map(|o| o.as_ref().is_some_and(is_read)).collect();
    let dtype = |value: &ValueId| types::of(graph, *value).map(|ty| ty.dtype);
    let has = |value: &ValueId| dtype(value).is_some_and(|t| t == DataType::F32 || !t.is_float());
    if !node.inputs.iter().flatten().all(has) {
        return None;
    }
    let mut parts = Parts { graph, name: node.name.clone(), opset };
    let outputs = rule(&mut parts, &node)?;
    let covered = |slot: usize| outputs.get(slot).is_some_and(Option::is_some);
    if (0..wanted.len()).any(|slot| wanted[slot] && !covered(slot)) {
        return None;
    }
    for (output, value) in node.outputs.iter().zip(&outputs) {
        if let (Some(output), Some(value)) = (output, value) {
            rewire::bypass(graph, *output, *value);
        }
    }
    Some(())
}

/// The graph that parts of a fused node are added to.
struct Parts<'g> {
    graph: &'g mut Graph,
    /// The fused node's name.
    name: String,
    opset: i64,
}

impl Parts<'_> {
    fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.op_with(op, inputs, [])
    }

    fn op_with(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> ValueId {
        let name = format!("{}.{op}", self.name);
        self.graph.add_op(op, &name, inputs, attributes)
    }

    fn scalar(&mut self, value: f32) -> ValueId {
        let tensor = Tensor::from_f32(&ndarray::arr0(value).into_dyn());
        self.graph.add_initializer(&format!("{}.number", self.name), tensor)
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        let tensor = Tensor::from_i64(vec![values.len()], values);
        self.graph.add_initializer(&format!("{}.ints", self.name), tensor)
    }

    /// `a op value`
    fn with_number(&mut self, op: &str, a: ValueId, value: f32) -> ValueId {
        let number = self.scalar(value);
        self.op(op, &[a, number])
    }

    /// The sum of `a` and what is there of `others`.
    fn added(&mut self, a: ValueId, others: &[Option<ValueId>]) -> ValueId {
        others.iter().flatten().fold(a, |sum, other| self.op("Add", &[sum, *other]))
    }

    /// The mean over the last axis.
    fn mean(&mut self, value: ValueId) -> ValueId {
        if self.opset < 18 {
            return self.op_with("ReduceMean", &[value], [("axes", Attribute::Ints(vec![-1]))]);
        }
        let axes = self.ints(&[-1]);
        self.op("ReduceMean", &[value, axes])
    }

    /// `x` divided by the root of its mean square over the last axis, times `scale`.
    fn by_root(&mut self, x: ValueId, scale: ValueId, epsilon: f32) -> ValueId {
        let square = self.op("Mul", &[x, x]);
        let mean = self.mean(square);
        let raised = self.with_number("Add", mean, epsilon);
        let root = self.op("Sqrt", &[raised]);
        let normal = self.op("Div", &[x, root]);
        self.op("Mul", &[normal, scale])
    }

    /// Layer normalisation over the last axis.
    fn norm(
        &mut self,
        x: ValueId,
        scale: ValueId,
        shift: Option<ValueId>,
        epsilon: f32,
    ) -> ValueId {
        let mean = self.mean(x);
        let centred = self.op("Sub", &[x, mean]);
        let scaled = self.by_root(centred, scale, epsilon);
        self.added(scaled, &[shift])
    }
}
