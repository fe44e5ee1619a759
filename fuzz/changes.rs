//! Ways to change a model.

use onnx_zip::ir::{
    Attribute, DataType, Dim, Graph, Model, Node, NodeId, Tensor, TensorType, ValueId, ValueKind,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// One change: its kind, its places, and a number.
#[derive(Debug, Clone)]
pub struct Change {
    kind: usize,
    places: [Index; 3],
    number: i64,
}

/// Any change.
pub fn change() -> impl Strategy<Value = Change> {
    let places = [any::<Index>(), any::<Index>(), any::<Index>()];
    (0..CHANGES.len(), places, number()).prop_map(|(kind, places, number)| Change {
        kind,
        places,
        number,
    })
}

/// Likely and invalid values of sizes, axes and counts.
fn number() -> impl Strategy<Value = i64> {
    let extremes = prop::sample::select(vec![
        i64::MIN,
        i64::MAX,
        i64::MAX - 1,
        1 << 62,
        1 << 32,
        (1 << 31) - 1,
        -(1 << 31),
        1_000_000_000,
        1 << 24,
        65_536,
        1000,
    ]);
    prop_oneof![4 => -3i64..12, 1 => 12i64..300, 2 => extremes]
}

/// The model with all changes that are possible.
pub fn changed(original: &Model, changes: &[Change]) -> Model {
    let mut model = original.clone();
    for change in changes {
        let _ = CHANGES[change.kind](&mut model, &change.places, change.number);
    }
    model
}

type Apply = fn(&mut Model, &[Index; 3], i64) -> Option<()>;

const CHANGES: &[Apply] = &[
    set_attribute,
    set_attribute,
    add_attribute,
    remove_attribute,
    reshape_constant,
    reshape_constant,
    retype_constant,
    fill_constant,
    rewire,
    rewire,
    drop_input,
    append_input,
    rename_operator,
    remove_node,
    insert_node,
    insert_node,
    resize_input,
    retype_value,
    add_output,
    set_opset,
    input_from_constant,
];

/// Operators that nodes become.
const OPERATORS: &[&str] = &[
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Bernoulli",
    "Cast",
    "Clip",
    "Concat",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Einsum",
    "Expand",
    "Flatten",
    "GRU",
    "Gather",
    "GatherElements",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "Identity",
    "If",
    "InstanceNormalization",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "Loop",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Mul",
    "NonZero",
    "OneHot",
    "PRelu",
    "Pad",
    "Pow",
    "RNN",
    "Range",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Scan",
    "ScatterND",
    "Shape",
    "Size",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tile",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Attributes that nodes get.
const ATTRIBUTES: &[&str] = &[
    "alpha",
    "auto_pad",
    "axes",
    "axis",
    "blocksize",
    "ceil_mode",
    "dilations",
    "direction",
    "epsilon",
    "group",
    "hidden_size",
    "keepdims",
    "kernel_shape",
    "layout",
    "mode",
    "num_groups",
    "num_outputs",
    "output_padding",
    "output_shape",
    "pads",
    "perm",
    "split",
    "strides",
    "to",
    "transA",
    "transB",
    "value",
    "training_mode",
];

fn node(graph: &Graph, place: &Index) -> Option<NodeId> {
    let nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    (!nodes.is_empty()).then(|| nodes[place.index(nodes.len())])
}

fn value(graph: &Graph, place: &Index) -> Option<ValueId> {
    let attached = |kind: &ValueKind| !matches!(kind, ValueKind::Detached);
    let values = graph.values().filter(|(_, v)| attached(&v.kind)).map(|(id, _)| id);
    let values: Vec<ValueId> = values.collect();
    (!values.is_empty()).then(|| values[place.index(values.len())])
}

fn constant(graph: &Graph, place: &Index) -> Option<(ValueId, Tensor)> {
    let constants: Vec<(ValueId, Tensor)> =
        graph.values().filter_map(|(id, _)| Some((id, graph.initializer(id)?.clone()))).collect();
    (!constants.is_empty()).then(|| constants[place.index(constants.len())].clone())
}

fn set_attribute(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let id = node(&model.graph, &places[0])?;
    model.graph.edit_node(id, |node| {
        let count = node.attributes.len().max(1);
        let Some(attribute) = node.attributes.values_mut().nth(places[1].index(count)) else {
            return;
        };
        match attribute {
            Attribute::Int(v) => *v = number,
            Attribute::Float(v) => *v = number as f32,
            Attribute::Ints(all) if !all.is_empty() => {
                let at = places[2].index(all.len());
                all[at] = number;
            }
            other => *other = Attribute::Ints(vec![number; places[2].index(9)]),
        }
    });
    Some(())
}

fn add_attribute(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let id = node(&model.graph, &places[0])?;
    let name = ATTRIBUTES[places[1].index(ATTRIBUTES.len())];
    let attribute = match (name, places[2].index(4)) {
        ("auto_pad", _) => Attribute::Str(b"SAME_UPPER".to_vec()),
        ("direction", 0) => Attribute::Str(b"reverse".to_vec()),
        ("direction", _) => Attribute::Str(b"bidirectional".to_vec()),
        (_, 0) => Attribute::Int(number),
        (_, count) => Attribute::Ints(vec![number; count]),
    };
    model.graph.edit_node(id, |node| {
        node.attributes.insert(name.to_owned(), attribute);
    });
    Some(())
}

fn remove_attribute(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let id = node(&model.graph, &places[0])?;
    model.graph.edit_node(id, |node| {
        let count = node.attributes.len().max(1);
        let name = node.attributes.keys().nth(places[1].index(count)).cloned();
        name.map(|name| node.attributes.remove(&name));
    });
    Some(())
}

/// Another size along one axis, an axis more or an axis less; elements are repeated or cut off.
fn reshape_constant(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let (id, mut tensor) = constant(&model.graph, &places[0])?;
    let size = tensor.dtype.size()?;
    let small = usize::try_from(number).ok().filter(|n| *n < 2000).unwrap_or(1);
    match places[1].index(4) {
        0 => tensor.dims.push(small),
        1 => drop(tensor.dims.pop()),
        _ if tensor.dims.is_empty() => tensor.dims = vec![small],
        _ => {
            let axis = places[2].index(tensor.dims.len());
            tensor.dims[axis] = small;
        }
    }
    let needed = tensor.dims.iter().try_fold(size, |n, d| n.checked_mul(*d))?;
    if needed > 1 << 20 {
        return None;
    }
    let source: Vec<u8> = if tensor.data.is_empty() { vec![0; size] } else { tensor.data.to_vec() };
    tensor.data = source.into_iter().cycle().take(needed).collect::<Vec<u8>>().into();
    model.graph.set_initializer(id, tensor);
    Some(())
}

fn retype_constant(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let (id, tensor) = constant(&model.graph, &places[0])?;
    let types = [DataType::F64, DataType::F16, DataType::I64, DataType::I32, DataType::Bool];
    let dtype = types[places[1].index(types.len())];
    let data = vec![1; tensor.len() * dtype.size()?];
    model.graph.set_initializer(id, Tensor { dtype, dims: tensor.dims, data: data.into() });
    Some(())
}

fn fill_constant(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let (id, tensor) = constant(&model.graph, &places[0])?;
    let filled = match tensor.dtype {
        DataType::I64 => {
            let mut all = tensor.to_i64()?;
            if all.is_empty() {
                return None;
            }
            let at = places[1].index(all.len());
            all[at] = number;
            Tensor::from_i64(tensor.dims, &all)
        }
        dtype if dtype.is_float() => {
            let value = [0.0, 1e30, f64::INFINITY, number as f64, 1e-300][places[1].index(5)];
            Tensor::from_f64(dtype, &tensor.to_f64().ok()?.mapv(|_| value)).ok()?
        }
        _ => return None,
    };
    model.graph.set_initializer(id, filled);
    Some(())
}

fn rewire(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let (id, other) = (node(&model.graph, &places[0])?, value(&model.graph, &places[2])?);
    model.graph.edit_node(id, |node| {
        if !node.inputs.is_empty() {
            let slot = places[1].index(node.inputs.len());
            node.inputs[slot] = Some(other);
        }
    });
    Some(())
}

fn drop_input(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let id = node(&model.graph, &places[0])?;
    model.graph.edit_node(id, |node| match places[1].index(2) {
        0 => drop(node.inputs.pop()),
        _ if node.inputs.is_empty() => {}
        _ => {
            let slot = places[2].index(node.inputs.len());
            node.inputs[slot] = None;
        }
    });
    Some(())
}

fn append_input(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let (id, other) = (node(&model.graph, &places[0])?, value(&model.graph, &places[1])?);
    model.graph.edit_node(id, |node| node.inputs.push(Some(other)));
    Some(())
}

fn rename_operator(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let id = node(&model.graph, &places[0])?;
    let op = OPERATORS[places[1].index(OPERATORS.len())];
    model.graph.edit_node(id, |node| node.op = op.to_owned());
    Some(())
}

/// Makes consumers of the node's first output read its first input instead.
fn remove_node(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let id = node(&model.graph, &places[0])?;
    let (input, output) = (model.graph.node(id).input(0)?, model.graph.node(id).output(0)?);
    model.graph.replace_uses(output, input);
    model.graph.remove_node(id);
    Some(())
}

fn insert_node(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let graph = &mut model.graph;
    let (from, with) = (value(graph, &places[0])?, value(graph, &places[1])?);
    let op = OPERATORS[places[2].index(OPERATORS.len())];
    let output = graph.add_value("inserted", ValueKind::Detached, None);
    graph.replace_uses(from, output);
    let second = (number % 2 == 0).then_some(with);
    graph.add_node(Node {
        name: format!("inserted.{}", output.index()),
        op: op.to_owned(),
        inputs: [Some(from), second].into_iter().flatten().map(Some).collect(),
        outputs: vec![Some(output)],
        attributes: [("axis".to_owned(), Attribute::Int(number))].into(),
        ..Node::default()
    });
    Some(())
}

fn resize_input(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let graph = &mut model.graph;
    let count = graph.inputs.len();
    let id = *graph.inputs.get(places[0].index(count.max(1)))?;
    let mut ty = graph.value(id).ty.clone()?;
    let shape = ty.shape.as_mut()?;
    let dim = usize::try_from(number).map_or(Dim::Unknown, Dim::Known);
    match shape.len() {
        0 => shape.push(dim),
        rank => {
            let axis = places[1].index(rank);
            match places[2].index(4) {
                0 => drop(shape.remove(axis)),
                1 => shape.insert(axis, dim),
                _ => shape[axis] = dim,
            }
        }
    }
    graph.set_type(id, Some(ty));
    Some(())
}

fn retype_value(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let id = value(&model.graph, &places[0])?;
    let dims = vec![usize::try_from(number).map_or(Dim::Unknown, Dim::Known); places[1].index(6)];
    let types = [DataType::F32, DataType::I64, DataType::Bool, DataType::F64, DataType::Other(8)];
    let dtype = types[places[2].index(types.len())];
    model.graph.set_type(id, Some(TensorType { dtype, shape: Some(dims) }));
    Some(())
}

fn add_output(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let id = value(&model.graph, &places[0])?;
    match places[1].index(3) {
        0 => model.graph.outputs = vec![id],
        _ => model.graph.outputs.push(id),
    }
    Some(())
}

fn set_opset(model: &mut Model, places: &[Index; 3], number: i64) -> Option<()> {
    let opset = if places[0].index(2) == 0 { number } else { number.rem_euclid(25) };
    model.opsets.insert(String::new(), opset);
    Some(())
}

/// Turns a constant into an input.
fn input_from_constant(model: &mut Model, places: &[Index; 3], _: i64) -> Option<()> {
    let (id, tensor) = constant(&model.graph, &places[0])?;
    let shape = tensor.dims.iter().map(|d| Dim::Known(*d)).collect();
    model.graph.set_input(id, TensorType { dtype: tensor.dtype, shape: Some(shape) });
    Some(())
}
