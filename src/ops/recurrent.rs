//! Recurrent layers.

use crate::ir::Attribute;

use super::gate::{Gate, GateInputs};
use super::{Flow, Layer, LayerKind, NodeView, OpRule};

/// `LSTM`, `GRU` and `RNN` in canonical form: forward, every gate with one bias, and the hidden units
/// of all steps among the outputs.
pub struct Recurrent;

/// The operators and their gates, in the order of the rows of W and R.
const CELLS: &[(&str, &[&str])] =
    &[("LSTM", &["i", "o", "f", "c"]), ("GRU", &["z", "r", "h"]), ("RNN", &["i"])];

/// The input of a recurrent node with the number of steps of each sequence; initial states come behind it.
pub(crate) const SEQUENCE_LENGTHS: usize = 4;

/// Names and order of the gates of a recurrent operator; none for other operators.
pub fn gates(op: &str) -> &'static [&'static str] {
    CELLS.iter().find(|(name, _)| *name == op).map_or(&[], |(_, gates)| gates)
}

impl OpRule for Recurrent {
    fn ops(&self) -> &'static [&'static str] {
        &["LSTM", "GRU", "RNN"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        if node.node.input(7).is_some() {
            return Flow::whole("a recurrent layer with peepholes");
        }
        let is_forward = node.node.str("direction").is_none_or(|d| d == "forward");
        if !is_forward || node.node.int("layout", 0) != 0 {
            return Flow::whole("a recurrent layer in reverse, or with the batch first");
        }
        if resets_first(node) && !has_plain_gates(node) {
            return Flow::whole("a recurrent layer with an unusual reset gate");
        }
        match layers(node) {
            Some(layers) => Flow::Recurrent(layers),
            None => Flow::whole("a recurrent layer with computed weights"),
        }
    }
}

/// Whether the reset gate multiplies hidden units before their weights do.
fn resets_first(node: &NodeView<'_>) -> bool {
    node.node.is("GRU") && node.node.int("linear_before_reset", 0) == 0
}

/// Whether all gates except the last are plain sigmoids.
fn has_plain_gates(node: &NodeView<'_>) -> bool {
    let first = match node.node.attributes.get("activations") {
        Some(Attribute::Strs(names)) => names.first().cloned(),
        Some(_) => return false,
        None => None,
    };
    let clips = node.node.attributes.contains_key("clip");
    !clips && first.is_none_or(|name| name.eq_ignore_ascii_case(b"Sigmoid".as_slice()))
}

/// The gates of a node as layers.
fn layers(node: &NodeView<'_>) -> Option<Vec<Layer>> {
    let op = CELLS.iter().find(|(op, _)| node.node.is(op))?;
    let (op, names) = *op;
    let (weight, recurrence, bias) =
        (node.node.input(1)?, node.node.input(2)?, node.node.input(3)?);
    let &[1, rows, units] = node.graph.initializer(recurrence)?.dims.as_slice() else {
        return None;
    };
    let fits = rows == names.len() * units
        && matches!(node.graph.initializer(weight)?.dims.as_slice(), [1, r, _] if *r == rows)
        && node.graph.initializer(bias)?.dims == [1, 2 * rows]
        && node.graph.initializer(weight)?.dtype.is_float();
    if !fits {
        return None;
    }
    let gate = |(index, name): (usize, &'static str), inputs: GateInputs| {
        let gate = Gate {
            op,
            name,
            index,
            gates: names.len(),
            units,
            inputs,
            recurrence,
            initial: node.node.input(5),
        };
        Some(Layer {
            node: node.id,
            kind: LayerKind::Gate(gate),
            input: node.node.input(0)?,
            in_axis: 2,
            output: node.node.output(0)?,
            out_axis: 3,
            weight,
            bias: Some(bias),
            addition: None,
            rows: None,
        })
    };
    let last = names.len() - 1;
    let mut layers = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let is_candidate = op == "GRU" && index == last;
        if is_candidate && !resets_first(node) {
            layers.push(gate((index, name), GateInputs::Input)?);
            layers.push(gate((index, "Rh"), GateInputs::Hidden)?);
        } else {
            let inputs = if is_candidate { GateInputs::Reset } else { GateInputs::All };
            layers.push(gate((index, name), inputs)?);
        }
    }
    Some(layers)
}
