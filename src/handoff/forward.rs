//! The net to train: the joint net in the form `heads`, with an input per task.

use std::collections::HashMap;

use super::{operators, rewrite};
use crate::emit::{EmitOptions, Form, InputMode, emit};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, Model, Tensor, ValueId};
use crate::mtz::joint::JointModel;

/// Versions of the standard operator set that ONNX Runtime training differentiates.
const OPSETS: std::ops::RangeInclusive<i64> = 14..=21;

/// The newest version of the IR format that it reads.
const NEWEST_IR: i64 = 10;

/// Operators with weights, and the inputs that hold weights. A normalisation's scale and shift are
/// weights; its statistics are not.
const WEIGHTS: &[(&str, &[usize])] = &[
    ("Conv", &[1, 2]),
    ("Gemm", &[0, 1, 2]),
    ("MatMul", &[0, 1]),
    ("BatchNormalization", &[1, 2]),
];

/// The net to train.
pub struct Forward {
    /// The net: inputs `<task>/<input>`, outputs `<task>/<output>`, initializers as in the joint
    /// model in the form `heads`.
    pub model: Model,
    /// Names of the initializers to train; those of several tasks collect the gradients of all.
    pub trainable: Vec<String>,
}

/// Builds the net to train, with nodes rewritten for ONNX Runtime training.
///
/// Zeros in weights stay zero: a pruned weight is multiplied by its mask.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming a node that cannot be differentiated; as [`emit`].
pub fn forward(joint: &JointModel) -> Result<Forward> {
    let mut model = plain(joint)?;
    let weights = trainable(&model.graph);
    let names = weights.iter().map(|id| model.graph.value(*id).name.clone()).collect();
    if weights.is_empty() {
        return Err(Error::new(ErrorKind::Unsupported, "no layer has float weights to train"));
    }
    rewrite::run(&mut model.graph)?;
    operators::check(&model.graph, &weights)?;
    set_versions(&mut model)?;
    for id in weights {
        mask(&mut model.graph, id)?;
    }
    model.metadata.clear();
    Ok(Forward { model, trainable: names })
}

/// The emitted joint net with its recipe.
pub(super) fn plain(joint: &JointModel) -> Result<Model> {
    emit(joint, &EmitOptions { form: Form::Heads, inputs: InputMode::Separate })
}

/// The initializers that are used as weights of layers only.
pub(super) fn trainable(graph: &Graph) -> Vec<ValueId> {
    // Whether all uses of a value so far are as a weight.
    let mut uses: HashMap<ValueId, bool> = HashMap::new();
    for (_, node) in graph.nodes() {
        let entry = WEIGHTS.iter().find(|(op, _)| node.is(op));
        let places = entry.map_or(&[] as &[usize], |(_, places)| places);
        for captured in node.subgraphs().flat_map(Graph::captures) {
            uses.insert(captured, false);
        }
        for (place, input) in node.inputs.iter().enumerate() {
            if let Some(value) = input {
                *uses.entry(*value).or_insert(true) &= places.contains(&place);
            }
        }
    }
    let is_weight = |id: &ValueId| {
        let is_float = graph.initializer(*id).is_some_and(|t| t.dtype == DataType::F32);
        is_float && uses.get(id) == Some(&true) && !graph.outputs.contains(id)
    };
    graph.values().map(|(id, _)| id).filter(is_weight).collect()
}

/// Multiplies a weight by a constant mask of its zeros, so that they stay zero.
fn mask(graph: &mut Graph, weight: ValueId) -> Result<()> {
    let Some(tensor) = graph.initializer(weight) else { return Ok(()) };
    let elements = tensor.to_f32()?;
    let zeros = elements.iter().filter(|v| **v == 0.0).count();
    // A vector is a bias, which may begin at zero. An untrained matrix may be zero, too.
    if elements.ndim() < 2 || zeros == 0 || zeros == elements.len() {
        return Ok(());
    }
    let kept = elements.mapv(|v| if v == 0.0 { 0.0 } else { 1.0 });
    let name = graph.value(weight).name.clone();
    let readers: Vec<_> = graph.consumers()[weight.index()].clone();
    let mask = graph.add_initializer(&format!("{name}.mask"), Tensor::from_f32(&kept));
    let masked = graph.add_op("Mul", &format!("{name}.masked"), &[weight, mask], []);
    for reader in readers {
        graph.edit_node(reader, |node| {
            for input in node.inputs.iter_mut().flatten().filter(|v| **v == weight) {
                *input = masked;
            }
        });
    }
    Ok(())
}

/// Between versions 13 and 25, operators with gradients have changed only in the types that they
/// accept. Other versions stay.
fn set_versions(model: &mut Model) -> Result<()> {
    let own = model.opset();
    let nearest = own.clamp(*OPSETS.start(), *OPSETS.end());
    if own > nearest {
        let known = |op: &str| operators::TRAINABLE_OPS.contains(&op);
        let other = model.graph.nodes().find(|(_, n)| n.domain.is_empty() && !known(&n.op));
        if let Some((_, node)) = other {
            let message =
                format!("{} of operator set {own} is unknown to ONNX Runtime training", node.op);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .at_node(&node.name)
                .hint(format!("export the models with operator set {nearest} or older")));
        }
    }
    model.opsets.insert(String::new(), nearest);
    model.ir_version = model.ir_version.min(NEWEST_IR);
    Ok(())
}
