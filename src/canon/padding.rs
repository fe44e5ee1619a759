//! Turns `auto_pad` and `output_shape` into explicit padding if the padding is known.
//!
//! Gradients and comparisons with layers of other models need explicit padding.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, Node, NodeId};
use crate::ops::{divided_pads, same_pads};

use super::{CanonOptions, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(explicit) = explicit(graph, id) else { continue };
        graph.edit_node(id, |node| {
            node.attributes.remove("auto_pad");
            node.attributes.remove("output_shape");
            node.attributes.insert("pads".to_owned(), Attribute::Ints(explicit.pads));
            if explicit.more.iter().any(|more| *more > 0) {
                let more = Attribute::Ints(explicit.more);
                node.attributes.insert("output_padding".to_owned(), more);
            }
        });
        modified = true;
    }
    Ok(modified)
}

/// Padding of a node.
struct Explicit {
    /// Before all axes, then behind all axes.
    pads: Vec<i64>,
    /// Positions added behind each axis of a transposed convolution's output.
    more: Vec<i64>,
}

/// The explicit padding of a node that is told a mode or its output's shape. Nodes with `ceil_mode` stay,
/// since runtimes disagree about its meaning together with `auto_pad`.
fn explicit(graph: &Graph, id: NodeId) -> Option<Explicit> {
    let node = graph.node(id);
    let windowed = ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"];
    let is_told =
        ["auto_pad", "output_shape"].iter().any(|name| node.attributes.contains_key(*name));
    if !is_told || !windowed.iter().any(|op| node.is(op)) || node.int("ceil_mode", 0) != 0 {
        return None;
    }
    let shape = types::shape(graph, node.input(0)?)?;
    let spatial = shape.get(2..)?;
    let window = Window { node, kernel: kernel(graph, id).unwrap_or_default(), spatial };
    let axes: Option<Vec<AxisPads>> = (0..spatial.len())
        .map(|axis| match node.is("ConvTranspose") {
            true => window.of_output(axis),
            false => window.of_input(axis),
        })
        .collect();
    let axes = axes?;
    let (before, behind) = (axes.iter().map(|pads| pads.0), axes.iter().map(|pads| pads.1));
    let pads = before.chain(behind).map(|pad| i64::try_from(pad).ok()).collect::<Option<_>>()?;
    let more = axes.iter().map(|pads| i64::try_from(pads.2).ok()).collect::<Option<_>>()?;
    Some(Explicit { pads, more })
}

/// Padding before and behind an axis, and positions added behind it.
type AxisPads = (usize, usize, usize);

/// The window of a node over the spatial axes of its input.
struct Window<'a> {
    node: &'a Node,
    /// Empty if unknown.
    kernel: Vec<usize>,
    spatial: &'a [Dim],
}

impl Window<'_> {
    fn mode(&self) -> &str {
        self.node.str("auto_pad").unwrap_or("NOTSET")
    }

    /// One entry of a list of numbers that are not negative.
    fn number(&self, name: &str, at: usize, default: usize) -> Option<usize> {
        self.node.ints(name).map_or(Some(default), |list| usize::try_from(*list.get(at)?).ok())
    }

    /// Positions that the window spans, gaps included, and its stride.
    fn reach(&self, axis: usize) -> Option<(usize, usize)> {
        let steps = self.kernel.get(axis)?.checked_sub(1)?;
        let reach = steps.checked_mul(self.number("dilations", axis, 1)?)?.checked_add(1)?;
        Some((reach, self.number("strides", axis, 1)?))
    }

    /// The padding that a node gives.
    fn given(&self, axis: usize) -> Option<(usize, usize)> {
        let behind = axis.checked_add(self.spatial.len())?;
        Some((self.number("pads", axis, 0)?, self.number("pads", behind, 0)?))
    }

    fn of_input(&self, axis: usize) -> Option<AxisPads> {
        let (before, behind) = match self.mode() {
            "NOTSET" | "" => self.given(axis)?,
            "VALID" => (0, 0),
            mode => {
                let (reach, stride) = self.reach(axis)?;
                same_pads(self.spatial.get(axis)?.known(), reach, stride, mode == "SAME_LOWER")?
            }
        };
        Some((before, behind, 0))
    }

    /// The padding of a transposed convolution, which crops its output.
    fn of_output(&self, axis: usize) -> Option<AxisPads> {
        let more = self.number("output_padding", axis, 0)?;
        if let Some(sizes) = self.node.ints("output_shape").filter(|sizes| !sizes.is_empty()) {
            // Some files include the batch and channels.
            let first = sizes.len().checked_sub(self.spatial.len())?;
            let size = usize::try_from(*sizes.get(first.checked_add(axis)?)?).ok()?;
            return self.cropped_to(size, axis, more);
        }
        let (before, behind) = match self.mode() {
            "NOTSET" | "" => self.given(axis)?,
            "VALID" => (0, 0),
            mode => {
                let (reach, stride) = self.reach(axis)?;
                // Each input position gives a stride of output positions. Runtimes disagree if a window has fewer.
                let total = reach.checked_add(more)?.checked_sub(stride)?;
                divided_pads(total, mode == "SAME_LOWER")
            }
        };
        Some((before, behind, more))
    }

    /// The padding with which a transposed convolution that adds `more` positions has `size` of them. It
    /// replaces the padding that is given, and a mode decides at which end an odd position is cropped.
    fn cropped_to(&self, size: usize, axis: usize, more: usize) -> Option<AxisPads> {
        let (reach, stride) = self.reach(axis)?;
        let steps = self.spatial.get(axis)?.known()?.checked_sub(1)?;
        let spread = steps.checked_mul(stride)?.checked_add(reach)?.checked_add(more)?;
        if let Some(total) = spread.checked_sub(size) {
            let (before, behind) = divided_pads(total, self.mode() != "SAME_UPPER");
            return Some((before, behind, more));
        }
        // Runtimes add less than a stride of positions.
        let more = more.checked_add(size.checked_sub(spread)?)?;
        (more < stride).then_some((0, 0, more))
    }
}

fn kernel(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let node = graph.node(id);
    match node.ints("kernel_shape") {
        Some(kernel) => kernel.iter().map(|k| usize::try_from(*k).ok()).collect(),
        None => types::shape(graph, node.input(1)?)?.get(2..)?.iter().map(|d| d.known()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    /// Padding and added positions of a transposed convolution of five positions or, if they are open, of any
    /// number; `None` if it stays as it is.
    fn transposed<const N: usize>(
        (kernel, stride): (usize, i64),
        positions: &str,
        attributes: [(&'static str, Attribute); N],
    ) -> Option<(Vec<i64>, i64)> {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", &format!("n,2,{positions}"));
        let w = b.weights("w", &[2, 3, kernel]);
        let y = b.op("ConvTranspose", "y", &[x, w], attributes);
        let mut model = b.build(&[y]);
        let id = model.graph.producer(y).unwrap();
        model.graph.edit_node(id, |node| {
            node.attributes.insert("strides".to_owned(), Attribute::Ints(vec![stride]));
        });
        let modified = run(&mut model, &CanonOptions::default()).unwrap();
        assert!(!run(&mut model, &CanonOptions::default()).unwrap());
        let node = model.graph.node(id);
        let more = node.ints("output_padding").and_then(|more| more.first().copied());
        modified.then(|| (node.ints("pads").unwrap().to_vec(), more.unwrap_or(0)))
    }

    #[test]
    fn a_mode_crops_to_a_stride_of_positions_for_each() {
        let of = |window, mode: &str| transposed(window, "h", [("auto_pad", mode.into())]);
        assert_eq!(of((3, 2), "SAME_UPPER"), Some((vec![0, 1], 0)));
        assert_eq!(of((3, 2), "SAME_LOWER"), Some((vec![1, 0], 0)));
        assert_eq!(of((4, 2), "SAME_UPPER"), Some((vec![1, 1], 0)));
        assert_eq!(of((3, 2), "VALID"), Some((vec![0, 0], 0)));
        assert_eq!(of((2, 3), "SAME_UPPER"), None);
        let more = [("auto_pad", "SAME_UPPER".into()), ("output_padding", [1].into())];
        assert_eq!(transposed((3, 2), "h", more), Some((vec![1, 1], 1)));
    }

    #[test]
    fn a_shape_crops_or_extends_the_output() {
        // Five positions, a stride of two and a window of three give eleven positions.
        let of = |size: i64| transposed((3, 2), "5", [("output_shape", [size].into())]);
        assert_eq!(of(11), Some((vec![0, 0], 0)));
        assert_eq!(of(10), Some((vec![1, 0], 0)));
        assert_eq!(of(8), Some((vec![2, 1], 0)));
        assert_eq!(of(12), Some((vec![0, 0], 1)));
        assert_eq!(of(13), None);
        let upper = [("auto_pad", "SAME_UPPER".into()), ("output_shape", [10].into())];
        assert_eq!(transposed((3, 2), "5", upper), Some((vec![0, 1], 0)));
        let padded = [("pads", [0, 1].into()), ("output_shape", [10].into())];
        assert_eq!(transposed((3, 2), "5", padded), Some((vec![1, 0], 0)));
        let whole = [("output_shape", [1, 3, 10].into())];
        assert_eq!(transposed((3, 2), "5", whole), Some((vec![1, 0], 0)));
        assert_eq!(transposed((3, 2), "h", [("output_shape", [10].into())]), None);
    }
}
