//! Splits one product or convolution that computes queries, keys and values into one for each.
//!
//! Scalar products need queries and keys with the same channels in the same order. As rows of one
//! layer, they could not be paired. So a product whose rows are split over several axes, and cut along
//! one of them, becomes one product per part, with the rows of that part. So does a convolution.

use crate::error::Result;
use crate::ir::{
    Attribute, Consumers, Dim, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind,
};
use crate::ops::{NodeView, moved_ones, normal_axis, slices};

use super::{CanonOptions, requantised, rewire, types};

/// Limit of parts of a product.
const MOST_PARTS: usize = 8;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        if let Some(stack) = Stack::at(graph, &readers, id) {
            stack.write(graph);
            modified = true;
        }
    }
    Ok(modified)
}

/// The axes that the rows of a product lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grid {
    /// Axes with their extents, from the slowest to the fastest index.
    axes: Vec<(usize, usize)>,
}

impl Grid {
    /// The rows with an index of `start..end` on `axis`.
    fn rows(&self, axis: usize, start: usize, end: usize) -> Option<Vec<usize>> {
        let place = self.axes.iter().position(|(own, _)| *own == axis)?;
        let extents = |axes: &[(usize, usize)]| axes.iter().map(|(_, n)| n).product::<usize>();
        let (extent, inner) = (self.axes[place].1, extents(&self.axes[place + 1..]));
        let outer = 0..extents(&self.axes[..place]);
        let row = |o: usize, i: usize| (o * extent + i) * inner;
        let runs = outer.flat_map(|o| (start..end).map(move |i| row(o, i)));
        Some(runs.flat_map(|first| first..first + inner).collect())
    }
}

/// A part of a product's rows.
struct Part {
    /// The value that holds it.
    output: ValueId,
    /// The indices along the axis.
    start: usize,
    end: usize,
    /// Whether the cut drops the axis.
    is_squeezed: bool,
}

/// A product, the nodes that move its rows, and the parts into which they are cut.
struct Stack {
    product: NodeId,
    /// Nodes between the product and the cut.
    steps: Vec<NodeId>,
    /// The grid after the steps, and the axis of the cut.
    grid: Grid,
    axis: usize,
    parts: Vec<Part>,
}

impl Stack {
    fn at(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<Stack> {
        let node = graph.node(id);
        let mut value = node.output(0)?;
        let mut grid = Grid { axes: vec![rows_of(graph, node, value)?] };
        let mut steps = Vec::new();
        loop {
            if graph.outputs.contains(&value) {
                return None;
            }
            let own = readers.get(value.index())?;
            if let Some((axis, parts)) = cut(graph, own, value, &grid) {
                let stack = Stack { product: id, steps, grid, axis, parts };
                return stack.is_for_heads(graph, readers).then_some(stack);
            }
            let step = rewire::only_reader(graph, readers, value)?;
            grid = behind(graph, step, value, &grid)?;
            value = graph.node(step).output(0)?;
            steps.push(step);
        }
    }

    /// Whether the rows lie on several axes, or are reshaped after the cut.
    fn is_for_heads(&self, graph: &Graph, readers: &Consumers) -> bool {
        let reshaped = |part: &Part| {
            let own = readers.get(part.output.index()).map_or(&[][..], Vec::as_slice);
            own.iter().any(|id| graph.node(*id).is("Reshape"))
        };
        let is_some = self.parts.len() > 1 && self.parts.len() <= MOST_PARTS;
        is_some && (self.grid.axes.len() > 1 || self.parts.iter().all(reshaped))
    }

    fn write(&self, graph: &mut Graph) {
        for (number, part) in self.parts.iter().enumerate() {
            let Some(rows) = self.grid.rows(self.axis, part.start, part.end) else { continue };
            let Some(value) = self.written(graph, number, part, &rows) else { continue };
            rewire::bypass(graph, part.output, value);
        }
    }

    /// Writes the nodes of one part, and returns its value.
    fn written(
        &self,
        graph: &mut Graph,
        number: usize,
        part: &Part,
        rows: &[usize],
    ) -> Option<ValueId> {
        let mut last = None;
        for id in std::iter::once(&self.product).chain(&self.steps) {
            let mut node = graph.node(*id).clone();
            let output = graph.node(*id).output(0)?;
            node.name = graph.fresh_name(&format!("{}.{number}", node.name));
            self.narrow(graph, *id, &mut node, (part.end - part.start, rows));
            if let Some((old, new)) = last {
                node.inputs.iter_mut().filter(|i| **i == Some(old)).for_each(|i| *i = Some(new));
            }
            let new = graph.add_value(&node.name, ValueKind::Detached, None);
            node.outputs = vec![Some(new)];
            graph.add_node(node);
            last = Some((output, new));
        }
        let (_, value) = last?;
        if !part.is_squeezed {
            return Some(value);
        }
        let axes = graph.add_initializer("axes", Tensor::from_i64(vec![1], &[self.axis as i64]));
        let name = graph.fresh_name(&format!("{}.{number}.squeeze", graph.node(self.product).name));
        Some(graph.add_op("Squeeze", &name, &[value, axes], []))
    }

    /// Reduces the constants of a copy of node `id` to some rows, of which there are `count` along the
    /// axis of the cut.
    fn narrow(
        &self,
        graph: &mut Graph,
        id: NodeId,
        node: &mut Node,
        (count, rows): (usize, &[usize]),
    ) {
        let source = graph.node(id).clone();
        let all = self.grid.axes.iter().map(|(_, n)| n).product::<usize>();
        if source.is("Reshape") {
            let Some(target) = source.input(1) else { return };
            let Some(entry) = self.entry_at(graph, id) else { return };
            node.inputs[1] = Some(replaced(graph, target, entry, count));
            return;
        }
        for (slot, input) in source.inputs.iter().enumerate() {
            let Some(constant) = *input else { continue };
            let Some(tensor) = graph.initializer(constant) else { continue };
            let along = match (source.op.as_str(), slot) {
                ("Gemm", 1) => usize::from(source.int("transB", 0) == 0),
                ("MatMul", 1) => 1,
                ("Conv", 1) => 0,
                _ => tensor.dims.len().wrapping_sub(1),
            };
            if tensor.dims.get(along) == Some(&all) {
                let name = format!("{}.rows", node.name);
                let part = rewire::selected(graph, &name, constant, (along, rows));
                node.inputs[slot] = part.or(Some(constant));
            }
        }
    }

    /// The entry for the axis of the cut in the target of reshape `id`.
    fn entry_at(&self, graph: &Graph, id: NodeId) -> Option<usize> {
        let place = self.steps.iter().position(|step| *step == id)?;
        let mut axis = self.axis;
        for step in self.steps.get(place + 1..)?.iter().rev() {
            let rank = types::shape(graph, graph.node(*step).input(0)?)?.len();
            axis = (0..rank).find(|own| moved(graph, *step, *own) == Some(axis))?;
        }
        Some(axis)
    }
}

/// The axis of a product's or convolution's rows, and their number.
fn rows_of(graph: &Graph, node: &Node, output: ValueId) -> Option<(usize, usize)> {
    let weight = graph.initializer(node.input(1)?)?;
    match node.op.as_str() {
        _ if !node.domain.is_empty() => None,
        "MatMul" | "Gemm" if weight.dims.len() == 2 => {
            let rows = *weight.dims.get(usize::from(node.int("transB", 0) == 0))?;
            Some((types::shape(graph, output)?.len().checked_sub(1)?, rows))
        }
        "Conv" if node.int("group", 1) == 1 => Some((1, *weight.dims.first()?)),
        _ => None,
    }
}

/// The output axis of an axis, for a node that moves axes.
fn moved(graph: &Graph, id: NodeId, axis: usize) -> Option<usize> {
    let node = graph.node(id);
    let rank = types::shape(graph, node.output(0)?)?.len();
    let given = |rank: usize| -> Option<Vec<usize>> {
        let axes = graph.initializer(node.input(1)?)?.to_i64()?;
        axes.iter().map(|axis| normal_axis(*axis, rank)).collect()
    };
    match node.op.as_str() {
        "Transpose" => node.ints("perm")?.iter().position(|p| usize::try_from(*p) == Ok(axis)),
        "Squeeze" => {
            let gone = given(types::shape(graph, node.input(0)?)?.len())?;
            let before = gone.iter().filter(|own| **own < axis).count();
            (!gone.contains(&axis)).then(|| axis - before)
        }
        "Unsqueeze" => {
            let new = given(rank)?;
            (0..rank).filter(|own| !new.contains(own)).nth(axis)
        }
        "Reshape" => {
            let shape = |value| types::shape(graph, value);
            let places = moved_ones(&shape(node.input(0)?)?, &shape(node.output(0)?)?)?;
            places.iter().position(|place| *place == Some(axis))
        }
        _ => None,
    }
}

/// The grid after a node that moves rows, adds one number to each or rounds all to one grid of numbers.
fn behind(graph: &Graph, id: NodeId, value: ValueId, grid: &Grid) -> Option<Grid> {
    let node = graph.node(id);
    let (from, to) = (types::shape(graph, value)?, types::shape(graph, node.output(0)?)?);
    match node.op.as_str() {
        "QuantizeLinear" | "DequantizeLinear" => {
            requantised::has_one_scale(graph, node).then(|| grid.clone())
        }
        "Add" => {
            let [(last, rows)] = grid.axes.as_slice() else { return None };
            let other = node.inputs.iter().flatten().find(|v| **v != value)?;
            let tensor = graph.initializer(*other)?;
            let is_vector = tensor.dims.iter().product::<usize>() == *rows
                && tensor.dims.last() == Some(rows)
                && to.len() == last + 1;
            is_vector.then(|| grid.clone())
        }
        "Reshape" if node.input(0) == Some(value) && grid.axes.len() == 1 => {
            let [(axis, rows)] = grid.axes.as_slice() else { return None };
            let tail = to.get(*axis..)?;
            // Later axes may be merged, as rows and columns of maps are.
            let run = match *axis + 1 == from.len() {
                true => tail,
                false => {
                    let mut before = from.iter().zip(&to).take(*axis);
                    let is_kept = before.all(|(a, b)| a.is_surely(b));
                    tail.get(..filled(tail, *rows).filter(|_| is_kept)?)?
                }
            };
            let extents: Vec<usize> = run.iter().map(Dim::known).collect::<Option<_>>()?;
            let fits = extents.len() > 1 && extents.iter().product::<usize>() == *rows;
            let axes = extents.iter().enumerate().map(|(at, n)| (axis + at, *n)).collect();
            fits.then_some(Grid { axes })
        }
        // A reshape behind the split may leave out axes of extent 1, as that of samples.
        "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" => {
            let place = |(axis, n): &(usize, usize)| Some((moved(graph, id, *axis)?, *n));
            Some(Grid { axes: grid.axes.iter().map(place).collect::<Option<_>>()? })
        }
        _ => None,
    }
}

/// The number of leading extents whose product is `rows`.
fn filled(extents: &[Dim], rows: usize) -> Option<usize> {
    let mut product = 1usize;
    for (place, extent) in extents.iter().enumerate() {
        product = product.checked_mul(extent.known()?)?;
        if product >= rows {
            return (product == rows).then_some(place + 1);
        }
    }
    None
}

/// The axis along which all consumers of `value` cut rows, and the parts.
fn cut(
    graph: &Graph,
    readers: &[NodeId],
    value: ValueId,
    grid: &Grid,
) -> Option<(usize, Vec<Part>)> {
    let rank = types::shape(graph, value)?.len();
    let mut found: Option<usize> = None;
    let mut parts = Vec::new();
    for id in readers {
        let (axis, own) = cut_at(graph, *id, value, rank)?;
        let (_, extent) = grid.axes.iter().find(|(own, _)| *own == axis)?;
        if found.is_some_and(|known| known != axis) || own.iter().any(|part| part.end > *extent) {
            return None;
        }
        found = Some(axis);
        parts.extend(own);
    }
    Some((found?, parts))
}

fn cut_at(graph: &Graph, id: NodeId, value: ValueId, rank: usize) -> Option<(usize, Vec<Part>)> {
    let view = NodeView::new(graph, id, &[]);
    let node = view.node;
    if node.input(0) != Some(value) || node.reads().filter(|v| *v == value).count() != 1 {
        return None;
    }
    let part = |output, start, end, is_squeezed| Part { output, start, end, is_squeezed };
    match node.op.as_str() {
        "Split" => {
            let axis = normal_axis(node.int("axis", 0), rank)?;
            let mut start = 0;
            let mut parts = Vec::new();
            for output in &node.outputs {
                let output = (*output)?;
                let end = start + types::shape(graph, output)?.get(axis)?.known()?;
                parts.push(part(output, start, end, false));
                start = end;
            }
            Some((axis, parts))
        }
        "Slice" => match slices(&view, rank)?.as_slice() {
            [(axis, start, _, 1)] => {
                let output = node.output(0)?;
                let extent = types::shape(graph, value)?.get(*axis)?.known()?;
                let count = types::shape(graph, output)?.get(*axis)?.known()?;
                let start = if *start < 0 { start + i64::try_from(extent).ok()? } else { *start };
                let start = usize::try_from(start).ok()?;
                Some((*axis, vec![part(output, start, start + count, false)]))
            }
            _ => None,
        },
        "Gather" => {
            let axis = normal_axis(node.int("axis", 0), rank)?;
            let index = graph.initializer(node.input(1)?).filter(|t| t.dims.len() <= 1)?;
            let [place] = index.to_i64()?.as_slice().try_into().ok()?;
            let extent = types::shape(graph, value)?.get(axis)?.known()?;
            let start = normal_axis(place, extent)?;
            // A list of one index keeps the axis.
            let is_squeezed = index.dims.is_empty();
            Some((axis, vec![part(node.output(0)?, start, start + 1, is_squeezed)]))
        }
        _ => None,
    }
}

/// The shape `target` with `count` as its entry `entry`.
fn replaced(graph: &mut Graph, target: ValueId, entry: usize, count: usize) -> ValueId {
    if let Some(mut known) = graph.initializer(target).and_then(Tensor::to_i64) {
        if let Some(own) = known.get_mut(entry) {
            *own = count as i64;
        }
        return graph.add_initializer("target", Tensor::from_i64(vec![known.len()], &known));
    }
    let mut ints = |values: &[i64]| {
        graph.add_initializer("entry", Tensor::from_i64(vec![values.len()], values))
    };
    let (zero, at, next) = (ints(&[0]), ints(&[entry as i64]), ints(&[entry as i64 + 1]));
    let (end, count) = (ints(&[i64::MAX]), ints(&[count as i64]));
    let before = graph.add_op("Slice", "target.before", &[target, zero, at], []);
    let rest = graph.add_op("Slice", "target.rest", &[target, next, end], []);
    graph.add_op("Concat", "target", &[before, count, rest], [("axis", Attribute::Int(0))])
}
