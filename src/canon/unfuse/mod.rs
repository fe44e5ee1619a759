//! Replaces fused operators of ONNX Runtime, scalers and picks of features, and casts to the type of another value
//! by the standard operators that they represent.
//!
//! In a model that was saved after optimisation or quantisation, weights belong to operators without a
//! rule. Operators that also reorder their weights for a processor stay.

mod activation;
mod attention;
mod cast;
mod dynamic;
mod embedding;
mod features;
mod few_bits;
mod integer;
mod layer;
mod normalisation;
mod quantised;
mod rotary;
mod scaler;
mod standard;

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{
    Attribute, Consumers, DataType, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind,
};

use super::{CanonOptions, rewire, types};

/// The domain of ONNX Runtime's own operators.
pub(super) const RUNTIME: &str = "com.microsoft";

/// Adds the nodes that an operator represents, and returns their result; `None` keeps the operator.
type Rule = fn(&mut Site<'_>) -> Option<ValueId>;

/// Operators with their domain and their rule.
const RULES: &[(&str, &str, Rule)] = &[
    (RUNTIME, "FusedConv", layer::convolution),
    (RUNTIME, "FusedGemm", layer::gemm),
    (RUNTIME, "FusedMatMul", layer::product),
    (RUNTIME, "BiasGelu", activation::bias_gelu),
    (RUNTIME, "Gelu", activation::gelu),
    (RUNTIME, "FastGelu", activation::fast_gelu),
    (RUNTIME, "QuickGelu", activation::quick_gelu),
    (RUNTIME, "SkipLayerNormalization", normalisation::of_sum),
    (RUNTIME, "SkipSimplifiedLayerNormalization", normalisation::simplified_sum),
    ("", "SimplifiedLayerNormalization", normalisation::simplified),
    (RUNTIME, "SimplifiedLayerNormalization", normalisation::simplified),
    (RUNTIME, "EmbedLayerNormalization", embedding::normalised),
    (RUNTIME, "Attention", attention::attention),
    (RUNTIME, "MultiHeadAttention", attention::multi_head),
    (RUNTIME, "GroupQueryAttention", standard::grouped),
    (RUNTIME, "RotaryEmbedding", rotary::contrib),
    ("", "Attention", standard::attention),
    ("", "RotaryEmbedding", rotary::standard),
    ("", "LayerNormalization", normalisation::early),
    ("", "QLinearConv", quantised::convolution),
    ("", "QLinearMatMul", quantised::product),
    (RUNTIME, "QGemm", quantised::gemm),
    (RUNTIME, "QLinearAdd", quantised::pair),
    (RUNTIME, "QLinearMul", quantised::pair),
    (RUNTIME, "QLinearConcat", quantised::concat),
    (RUNTIME, "QLinearGlobalAveragePool", quantised::single),
    (RUNTIME, "QLinearAveragePool", quantised::single),
    (RUNTIME, "QLinearSigmoid", quantised::single),
    (RUNTIME, "QLinearLeakyRelu", quantised::single),
    (RUNTIME, "QLinearSoftmax", quantised::softmax),
    (RUNTIME, "QLinearWhere", quantised::chosen),
    (RUNTIME, "QLinearReduceMean", quantised::mean),
    (RUNTIME, "QuantizeLinear", integer::pair),
    (RUNTIME, "DequantizeLinear", integer::pair),
    (RUNTIME, "DynamicQuantizeMatMul", integer::by_range),
    (RUNTIME, "MatMulIntegerToFloat", integer::to_float),
    (RUNTIME, "QAttention", attention::quantised),
    (RUNTIME, "QEmbedLayerNormalization", embedding::quantised),
    (RUNTIME, "MatMulNBits", few_bits::product),
    (RUNTIME, "GatherBlockQuantized", few_bits::rows),
    ("", "MatMulInteger", dynamic::product),
    ("", "ConvInteger", dynamic::product),
    ("", "Mul", quantised::scaled),
    ("", "CastLike", cast::like),
    ("ai.onnx.ml", "Scaler", scaler::scaler),
    ("ai.onnx.ml", "ArrayFeatureExtractor", features::picked),
];

/// Operators whose standard form has types or blocks since [`SINCE_FEW_BITS`].
const IN_FEW_BITS: [&str; 4] =
    ["MatMulNBits", "GatherBlockQuantized", "QuantizeLinear", "DequantizeLinear"];

/// The first operator set with blocks, and with integers of 4 and 16 bits.
const SINCE_FEW_BITS: i64 = 21;

/// The oldest operator set that has what the operators of a graph and its sub-graphs represent.
pub(super) fn oldest_opset(graph: &Graph) -> i64 {
    let is_new = |node: &Node| node.domain == RUNTIME && IN_FEW_BITS.contains(&node.op.as_str());
    let needs = |(_, node): (_, &Node)| {
        if is_new(node) {
            SINCE_FEW_BITS
        } else {
            node.subgraphs().map(oldest_opset).max().unwrap_or(0)
        }
    };
    graph.nodes().map(needs).max().unwrap_or(0)
}

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let opset = model.opset();
    let graph = &mut model.graph;
    let (readers, before) = (graph.consumers(), graph.nodes().count());
    let mut modified = false;
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let rule = RULES.iter().find(|(domain, op, _)| node.op == *op && node.domain == *domain);
        if let Some((_, _, rule)) = rule {
            modified |= replace(graph, &readers, id, opset, *rule);
        }
    }
    if !modified && graph.nodes().count() != before {
        // Removes nodes of rules that failed after adding some.
        rewire::prune(graph);
    }
    if !graph.nodes().any(|(_, node)| node.domain == RUNTIME) {
        model.opsets.remove(RUNTIME);
    }
    Ok(modified)
}

fn replace(graph: &mut Graph, readers: &Consumers, id: NodeId, opset: i64, rule: Rule) -> bool {
    let Some(output) = graph.node(id).output(0) else { return false };
    let name = graph.node(id).name.clone();
    let mut site = Site { graph, readers, id, output, opset, name };
    let Some(last) = rule(&mut site).and_then(|value| site.graph.producer(value)) else {
        return false;
    };
    let output = site.output;
    if let Some(former) = graph.producer(output) {
        // Not removed, since the walk may still visit it.
        graph.edit_node(former, |node| node.outputs.clear());
    }
    graph.edit_node(last, |node| node.outputs = vec![Some(output)]);
    true
}

/// A node to be replaced.
struct Site<'a> {
    graph: &'a mut Graph,
    /// Of the graph before the pass.
    readers: &'a Consumers,
    id: NodeId,
    /// The value that the result replaces: the node's output, or that of a later node.
    output: ValueId,
    opset: i64,
    name: String,
}

impl Site<'_> {
    fn node(&self) -> &Node {
        self.graph.node(self.id)
    }

    fn input(&self, index: usize) -> Option<ValueId> {
        self.node().input(index)
    }

    fn constant(&self, index: usize) -> Option<&Tensor> {
        self.graph.initializer(self.input(index)?)
    }

    /// Whether only the first output has consumers.
    fn only_first_is_read(&self) -> bool {
        !self.node().outputs.iter().skip(1).flatten().any(|value| self.is_read(*value))
    }

    fn is_read(&self, value: ValueId) -> bool {
        let readers = self.readers.get(value.index());
        readers.is_some_and(|all| !all.is_empty()) || self.graph.outputs.contains(&value)
    }

    /// Attributes of the node other than these.
    fn attributes_but(&self, names: &[&str]) -> BTreeMap<String, Attribute> {
        let mut attributes = self.node().attributes.clone();
        attributes.retain(|name, _| !names.contains(&name.as_str()));
        attributes
    }

    /// Adds a node of the standard operator set.
    fn add(
        &mut self,
        op: &str,
        inputs: &[Option<ValueId>],
        attributes: BTreeMap<String, Attribute>,
    ) -> ValueId {
        let name = format!("{}.{}", self.name, op.to_lowercase());
        let output = self.graph.add_value(&name, ValueKind::Detached, None);
        let name = self.graph.value(output).name.clone();
        let (op, inputs) = (op.to_owned(), inputs.to_vec());
        let outputs = vec![Some(output)];
        self.graph.add_node(Node { name, op, inputs, outputs, attributes, ..Node::default() });
        output
    }

    fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.add(op, &inputs, BTreeMap::new())
    }

    fn op_with(&mut self, op: &str, input: ValueId, attribute: (&str, Attribute)) -> ValueId {
        let (name, value) = attribute;
        self.add(op, &[Some(input)], BTreeMap::from([(name.to_owned(), value)]))
    }

    /// The floats of the integers, scale and zero point at these inputs.
    fn decoded(&mut self, [numbers, scale, zero]: [usize; 3], axis: i64) -> Option<ValueId> {
        let (scale, zero) = self.of_equal_lengths(self.input(scale)?, self.input(zero))?;
        let inputs = [Some(self.input(numbers)?), Some(scale), zero];
        let along = BTreeMap::from([("axis".to_owned(), Attribute::Int(axis))]);
        Some(self.add("DequantizeLinear", &inputs, along))
    }

    /// A scale and a zero point with as many numbers each. Operators of the runtime take one of the former beside
    /// several of the latter, or the other way round; the standard does not.
    fn of_equal_lengths(
        &mut self,
        scale: ValueId,
        zero: Option<ValueId>,
    ) -> Option<(ValueId, Option<ValueId>)> {
        let Some(point) = zero else { return Some((scale, zero)) };
        let constants = (self.graph.initializer(scale), self.graph.initializer(point));
        let (Some(scales), Some(points)) = constants else { return Some((scale, zero)) };
        let (few, many) = (scales.len().min(points.len()), scales.len().max(points.len()));
        if few == many {
            return Some((scale, zero));
        }
        let repeated = |tensor: &Tensor| -> Option<Tensor> {
            if tensor.len() == many {
                return Some(tensor.clone());
            }
            Tensor { dims: vec![1], ..tensor.clone() }.select(0, &vec![0; many])
        };
        let both = (few == 1).then(|| Some((repeated(scales)?, repeated(points)?)))??;
        let name = |part: &str| format!("{}.{part}", self.name);
        let (scales, points) = (name("scales"), name("points"));
        let scale = self.graph.add_initializer(&scales, both.0);
        Some((scale, Some(self.graph.add_initializer(&points, both.1))))
    }

    /// A number of the type of the node's data, float where that is not known or an integer.
    fn number(&mut self, value: f64) -> Option<ValueId> {
        let ty = self.input(0).and_then(|data| types::of(self.graph, data));
        let ty = ty.filter(|ty| ty.dtype.is_float());
        let dtype = ty.map_or(DataType::F32, |ty| ty.dtype);
        let tensor = Tensor::from_f64(dtype, &ArrayD::from_elem(IxDyn(&[]), value)).ok()?;
        let name = format!("{}.number", self.name);
        Some(self.graph.add_initializer(&name, tensor))
    }

    /// The product of a value and a number.
    fn scaled(&mut self, value: ValueId, factor: f64) -> Option<ValueId> {
        let factor = self.number(factor)?;
        Some(self.op("Mul", &[value, factor]))
    }
}
