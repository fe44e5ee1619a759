//! Tells which inputs of a file lose their default values.
//!
//! Exporters that list all weights among the inputs give each a default value, too. The note names the other
//! inputs first: thresholds, rates and states, which a run might have set.

use std::collections::HashSet;

use crate::ir::{Graph, Model, ValueId};
use crate::naming::shown;
use crate::ops::is_parameter;

/// The number of inputs that are named.
const NAMED: usize = 6;

/// Operators whose constants are weights, besides parameters that are trained.
const WITH_WEIGHTS: &[&str] = &[
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "QuantizeLinear",
    "DequantizeLinear",
    "Add",
    "Mul",
    "Gather",
];

/// A note about the inputs of a model that had default values; `None` if there are none.
pub(super) fn note(model: &Model) -> Option<String> {
    let weights = weights(&model.graph);
    let is_weight =
        |name: &&String| model.graph.value_named(name).is_some_and(|id| weights.contains(&id));
    let (weights, others): (Vec<&String>, Vec<&String>) =
        model.defaults.iter().partition(is_weight);
    let named = others.iter().chain(&weights).take(NAMED);
    let mut parts: Vec<String> = named.map(|name| format!("'{}'", shown(name))).collect();
    let all = weights.len() + others.len();
    let what = if others.len() <= NAMED { " weights" } else { "" };
    let rest = Some(all.saturating_sub(NAMED)).filter(|rest| *rest > 0);
    parts.extend(rest.map(|rest| format!("and {rest} more{what}")));
    let (inputs, have) = match all {
        0 => return None,
        1 => ("the input", "has a default value, which is a constant"),
        _ => ("the inputs", "have default values, which are constants"),
    };
    Some(format!("{inputs} {} {have} in a merge and can no longer be set", parts.join(", ")))
}

/// Constants of several elements that operators with weights read.
fn weights(graph: &Graph) -> HashSet<ValueId> {
    let mut found = HashSet::new();
    for (_, node) in graph.nodes().filter(|(_, node)| node.domain.is_empty()) {
        for (place, input) in node.inputs.iter().enumerate() {
            let Some((id, tensor)) = input.and_then(|id| Some((id, graph.initializer(id)?))) else {
                continue;
            };
            let several = tensor.dims.iter().product::<usize>() > 1;
            let holds = is_parameter(&node.op, place) || WITH_WEIGHTS.contains(&node.op.as_str());
            if several && holds {
                found.insert(id);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    fn model(extra: &[&str]) -> Model {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "batch,4");
        let (w, bias) = (b.weights("w", &[3, 4]), b.weights("bias", &[3]));
        let (rate, state) = (b.scalar("rate", 0.5), b.weights("state", &[1, 3]));
        let y = b.op("Gemm", "fc", &[x, w, bias], [("transB", 1.into())]);
        let y = b.op("Mul", "scale", &[y, rate], []);
        let y = b.op("Max", "max", &[y, state], []);
        let mut model = b.build(&[y]);
        model.defaults = extra.iter().map(|name| (*name).to_owned()).collect();
        model
    }

    #[test]
    fn inputs_with_default_values_are_named_weights_last() {
        assert_eq!(note(&model(&[])), None);
        assert_eq!(
            note(&model(&["rate"])).unwrap(),
            "the input 'rate' has a default value, which is a constant in a merge and can no longer be set"
        );
        assert_eq!(
            note(&model(&["w", "bias", "rate", "state"])).unwrap(),
            "the inputs 'rate', 'state', 'w', 'bias' have default values, which are constants in a merge and \
             can no longer be set"
        );
    }

    #[test]
    fn many_weights_are_counted() {
        let many = model(&["rate", "w", "bias", "w", "w", "w", "w", "w"]);
        let note = note(&many).unwrap();
        assert!(note.starts_with("the inputs 'rate', 'w', 'bias', "), "{note}");
        assert!(note.contains(", and 2 more weights have default values"), "{note}");
    }
}
