//! Brings recurrent layers to one form: forward, with one bias per gate, and without initial states of
//! zeros.
//!
//! A layer in reverse becomes a forward layer over the reversed sequence, which every runtime supports. A sequence that
//! ends early is reversed up to its end.
//! The two biases of a gate occur only as their sum, except in a GRU whose reset gate comes after the
//! weights. Initial states of zeros, which exporters compute from the batch size, are the default, so
//! they are dropped. The hidden units of all steps are always an output, since statistics of the gates'
//! inputs need them.

use crate::error::Result;
use crate::ir::{
    Attribute, Codes, Consumers, DataType, Dim, Graph, Model, Node, NodeId, Tensor, ValueId,
    ValueKind,
};
use crate::ops::{SEQUENCE_LENGTHS, gates};

use super::{CanonOptions, rewire, types, zeros};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] for biases that are not floats.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let recurrent = |(_, node): &(NodeId, &Node)| node.domain.is_empty() && is_recurrent(node);
    let ids: Vec<NodeId> = graph.nodes().filter(recurrent).map(|(id, _)| id).collect();
    let joins: Vec<NodeId> =
        graph.nodes().filter(|(_, node)| node.is("Concat")).map(|(id, _)| id).collect();
    let mut modified = false;
    let mut readers = graph.consumers();
    for id in joins {
        if flat_directions(graph, &readers, id).is_some() {
            readers = graph.consumers();
            modified = true;
        }
    }
    for id in ids {
        modified |= leave_out_zeros(graph, id);
        modified |= add_biases(graph, id);
        modified |= output_all_steps(graph, id);
        modified |= sum_biases(graph, id)?;
        modified |= forward(graph, id) || one_direction_each(graph, id).is_some();
    }
    Ok(modified)
}

fn is_recurrent(node: &Node) -> bool {
    !gates(&node.op).is_empty()
}

/// The inputs with initial states.
const STATES: [usize; 2] = [5, 6];

fn leave_out_zeros(graph: &mut Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let zero = |slot: &usize| node.input(*slot).is_some_and(|state| zeros::is_zero(graph, state));
    let zeros: Vec<usize> = STATES.into_iter().filter(zero).collect();
    graph.edit_node(id, |node| {
        zeros.iter().for_each(|slot| node.inputs[*slot] = None);
        while node.inputs.last() == Some(&None) {
            node.inputs.pop();
        }
    });
    !zeros.is_empty()
}

/// Adds biases of zeros to a node without biases.
fn add_biases(graph: &mut Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let weight = node.input(2).and_then(|w| graph.initializer(w));
    let (None, Some(weight)) = (node.input(3), weight) else { return false };
    let (&[directions, rows, _], Some(size)) = (weight.dims.as_slice(), weight.dtype.size()) else {
        return false;
    };
    let dims = vec![directions, 2 * rows];
    let data = vec![0; dims.iter().product::<usize>() * size].into();
    let zeros = Tensor { dtype: weight.dtype, dims, data };
    let bias = graph.add_initializer(&format!("{}.bias", graph.node(id).name), zeros);
    graph.edit_node(id, |node| {
        node.inputs.resize(node.inputs.len().max(4), None);
        node.inputs[3] = Some(bias);
    });
    true
}

fn output_all_steps(graph: &mut Graph, id: NodeId) -> bool {
    if graph.node(id).output(0).is_some() {
        return false;
    }
    let name = format!("{}.steps", graph.node(id).name);
    let steps = graph.add_value(&name, ValueKind::Detached, None);
    graph.edit_node(id, |node| {
        node.outputs.resize(node.outputs.len().max(1), None);
        node.outputs[0] = Some(steps);
    });
    true
}

/// Moves the second bias of a gate into the first.
fn sum_biases(graph: &mut Graph, id: NodeId) -> Result<bool> {
    let node = graph.node(id);
    let Some((value, bias)) = node.input(3).and_then(|b| Some((b, graph.initializer(b)?))) else {
        return Ok(false);
    };
    let gates = gates(&node.op).len();
    let &[directions, width] = bias.dims.as_slice() else { return Ok(false) };
    let (half, units) = (width / 2, width / 2 / gates);
    // In such a GRU, the reset gate multiplies the second bias of the last gate.
    let apart = node.is("GRU") && node.int("linear_before_reset", 0) != 0;
    let summed = if apart { units * (gates - 1) } else { half };
    let (dtype, mut all) = (bias.dtype, bias.to_f64()?);
    let mut modified = false;
    for (direction, unit) in (0..directions).flat_map(|d| (0..summed).map(move |u| (d, u))) {
        let second = std::mem::take(&mut all[[direction, half + unit]]);
        all[[direction, unit]] += second;
        modified |= second != 0.0;
    }
    if modified {
        graph.set_initializer(value, Tensor::from_f64(dtype, &all)?);
    }
    Ok(modified)
}

/// Turns a layer in reverse into a forward layer over the reversed steps. Sequences that end early are reversed up to
/// their ends.
fn forward(graph: &mut Graph, id: NodeId) -> bool {
    let node = graph.node(id).clone();
    let (Some(x), Some("reverse")) = (node.input(0), node.str("direction")) else { return false };
    if node.int("layout", 0) != 0 {
        return false;
    }
    let name = |part: &str| format!("{}.{part}", node.name);
    let steps = graph.add_value(&name("steps"), ValueKind::Detached, None);
    let (input, output) = match node.input(SEQUENCE_LENGTHS) {
        Some(lengths) => {
            let wide = [("to", Attribute::Int(i64::from(DataType::I64.code())))];
            let lengths = graph.add_op("Cast", &name("lengths"), &[lengths], wide);
            let direction = rewire::ints(graph, &name("direction"), &[1]);
            let flat = graph.add_op("Squeeze", &name("steps"), &[steps, direction], []);
            let [input, flat] = [("input", x), ("output", flat)].map(|(part, value)| {
                graph.add_op("ReverseSequence", &name(part), &[value, lengths], [])
            });
            (input, ("Unsqueeze", vec![flat, direction]))
        }
        None => {
            let bounds =
                [-1, i64::MIN, 0, -1].map(|b| rewire::ints(graph, &name("reversed"), &[b]));
            let reversed = |value| [&[value], bounds.as_slice()].concat();
            let input = graph.add_op("Slice", &name("input"), &reversed(x), []);
            (input, ("Slice", reversed(steps)))
        }
    };
    graph.edit_node(id, |node| {
        node.inputs[0] = Some(input);
        node.attributes.remove("direction");
        if let Some(output) = node.outputs.first_mut().filter(|output| output.is_some()) {
            *output = Some(steps);
        }
    });
    if let Some(all) = node.output(0) {
        let (op, inputs) = output;
        let outputs = vec![Some(all)];
        graph.add_node(Node { outputs, ..Node::standard(op, &name("output"), &inputs, []) });
    }
    true
}

/// Splits a layer of two directions into two layers, and concatenates their outputs.
fn one_direction_each(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id).clone();
    let scaled = ["activation_alpha", "activation_beta"];
    let unusual = scaled.iter().any(|name| node.attributes.contains_key(*name));
    let peepholes = node.input(7).is_some();
    if node.str("direction") != Some("bidirectional") || peepholes || unusual {
        return None;
    }
    if node.int("layout", 0) != 0 {
        return None;
    }
    let parameters = node.inputs.get(1..4)?.iter();
    let parameters: Option<Vec<(Tensor, Option<Codes>)>> = parameters
        .map(|v| Some((graph.initializer((*v)?)?.clone(), graph.codes((*v)?).cloned())))
        .collect();
    let parameters =
        parameters.filter(|all| all.iter().all(|(t, _)| t.dims.first() == Some(&2)))?;
    let mut outputs: Vec<Vec<ValueId>> = vec![Vec::new(); node.outputs.len()];
    for (number, direction) in ["forward", "reverse"].into_iter().enumerate() {
        let mut one = Node { name: format!("{}.{direction}", node.name), ..node.clone() };
        one.attributes
            .insert("direction".to_owned(), Attribute::Str(direction.as_bytes().to_vec()));
        if let Some(Attribute::Strs(names)) = one.attributes.get_mut("activations") {
            let half = names.len() / 2;
            *names = names[number * half..(number + 1) * half].to_vec();
        }
        for (slot, (tensor, codes)) in (1..).zip(&parameters) {
            let name = format!("{}.{slot}", one.name);
            let codes = codes.as_ref().and_then(|codes| codes.select(0, &[number]));
            one.inputs[slot] = Some(graph.add_stored(&name, half(tensor, number), codes));
        }
        for state in one.inputs.iter_mut().skip(STATES[0]) {
            *state = state.map(|both| state_of(graph, &one.name, both, number as i64));
        }
        for (slot, output) in one.outputs.iter_mut().enumerate() {
            let Some(_) = output else { continue };
            let value = graph.add_value(&one.name, ValueKind::Detached, None);
            outputs[slot].push(value);
            *output = Some(value);
        }
        graph.add_node(one);
    }
    graph.remove_node(id);
    for (slot, (output, parts)) in node.outputs.iter().zip(outputs).enumerate() {
        let Some(output) = output else { continue };
        let axis = Attribute::Int(i64::from(slot == 0));
        graph.add_node(Node {
            name: format!("{}.directions.{slot}", node.name),
            op: "Concat".to_owned(),
            inputs: parts.into_iter().map(Some).collect(),
            outputs: vec![Some(*output)],
            attributes: [("axis".to_owned(), axis)].into(),
            ..Node::default()
        });
    }
    Some(())
}

/// The initial state of one of two directions.
fn state_of(graph: &mut Graph, name: &str, both: ValueId, number: i64) -> ValueId {
    let name = format!("{name}.state");
    let bounds = [number, number + 1, 0].map(|bound| rewire::ints(graph, &name, &[bound]));
    graph.add_op("Slice", &name, &[both, bounds[0], bounds[1], bounds[2]], [])
}

/// If two directions are flattened at once, concatenates their units instead. On an axis of directions,
/// the units of both would count as the same channels.
fn flat_directions(graph: &mut Graph, readers: &Consumers, id: NodeId) -> Option<()> {
    let node = graph.node(id).clone();
    if node.int("axis", 0) != 1 || node.inputs.len() != 2 {
        return None;
    }
    let turn = graph.node(rewire::only_reader(graph, readers, node.output(0)?)?);
    let has_samples_first = match turn.ints("perm").filter(|_| turn.is("Transpose"))? {
        [0, 2, 1, 3] => false,
        [2, 0, 1, 3] => true,
        _ => return None,
    };
    let flatten = graph.node(rewire::only_reader(graph, readers, turn.output(0)?)?);
    let flat = flatten.output(0).filter(|_| flatten.is("Reshape"))?;
    let shape = |value| types::shape(graph, value);
    let (before, after) = (shape(node.output(0)?)?, shape(flat)?);
    let ([steps, Dim::Known(2), batch, units], [first, second, all]) =
        (before.as_slice(), after.as_slice())
    else {
        return None;
    };
    let rows = if has_samples_first { [batch, steps] } else { [steps, batch] };
    let fits = rows[0].is_surely(first)
        && rows[1].is_surely(second)
        && units.known().is_some_and(|units| all.known() == Some(2 * units));
    if !fits {
        return None;
    }
    let axis =
        graph.add_initializer(&format!("{}.axis", node.name), Tensor::from_i64(vec![1], &[1]));
    let sides: Vec<ValueId> = node
        .inputs
        .iter()
        .flatten()
        .map(|side| graph.add_op("Squeeze", &format!("{}.side", node.name), &[*side, axis], []))
        .collect();
    let last = [("axis", Attribute::Int(2))];
    let name = format!("{}.sides", node.name);
    let mut joined = graph.add_op("Concat", &name, &sides, last);
    if has_samples_first {
        let perm = [("perm", Attribute::Ints(vec![1, 0, 2]))];
        joined = graph.add_op("Transpose", &name, &[joined], perm);
    }
    rewire::bypass(graph, flat, joined).then_some(())
}

/// One of the two halves of a tensor along its first axis.
fn half(tensor: &Tensor, number: usize) -> Tensor {
    let length = tensor.data.len() / 2;
    let data = tensor.data.slice(number * length..(number + 1) * length);
    let mut dims = tensor.dims.clone();
    dims[0] = 1;
    Tensor { dtype: tensor.dtype, dims, data }
}
