//! Large constants of one number, which files hold as the number and a shape.
//!
//! Canonical form computes what models compute from shapes alone, such as the zeros that others are scattered into.
//! Such a value can be larger than all weights. Runtimes compute it when they load the model.

use crate::ir::{DataType, Graph, Node, Tensor, ValueId};

/// Elements from which a shape and a node take less than the constant.
const FEWEST: usize = 1024;

/// Limit of bytes of all these constants of a file. Nets that are restored from it may have copies of them.
pub(super) const MOST: u64 = 1 << 22;

/// Operators to which a computed operand is as good as a constant.
const READERS: &[&str] = &[
    "Add",
    "And",
    "Concat",
    "Div",
    "Equal",
    "Expand",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mul",
    "Or",
    "Pow",
    "ScatterElements",
    "ScatterND",
    "Sub",
    "Where",
];

/// The constants of a graph that are one number many times, with that number, where computed operands are as good: so
/// many as take 4 MiB.
pub fn filled(graph: &Graph) -> Vec<(ValueId, Tensor)> {
    let readers = graph.consumers();
    let is_plain = |id: ValueId| {
        let all = &readers[id.index()];
        let fits = |node: &Node| node.domain.is_empty() && READERS.contains(&node.op.as_str());
        let is_read = !all.is_empty() && !graph.outputs.contains(&id);
        is_read && graph.codes(id).is_none() && all.iter().all(|reader| fits(graph.node(*reader)))
    };
    let number = |id: ValueId| graph.initializer(id).and_then(only_number);
    let all = graph.values().filter(|(id, _)| is_plain(*id));
    let all = all.filter_map(|(id, _)| Some((id, number(id)?)));
    let mut room = MOST;
    let fits = |(id, _): &(ValueId, Tensor)| {
        let bytes = graph.initializer(*id).map_or(0, |tensor| tensor.data.len() as u64);
        let left = room.checked_sub(bytes);
        room = left.unwrap_or(room);
        left.is_some()
    };
    all.filter(fits).collect()
}

/// The number that all elements of a large tensor are.
fn only_number(tensor: &Tensor) -> Option<Tensor> {
    use DataType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    let can_fill = matches!(
        tensor.dtype,
        Bool | F16 | F32 | F64 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64
    );
    let size = tensor.dtype.size().filter(|size| *size > 0 && can_fill)?;
    let mut elements = tensor.data.chunks_exact(size);
    let first = elements.next().filter(|_| tensor.len() >= FEWEST)?;
    let is_same = elements.all(|element| element == first);
    is_same.then(|| Tensor { dtype: tensor.dtype, dims: vec![1], data: first.to_vec().into() })
}
