//! Resampling: by scales, or to sizes.

use crate::ir::{Dim, Node};

use super::elementwise::{same_axis, whole_alike};
use super::reshape::counted;
use super::types::scales;
use super::{Flow, Labels, NodeView, OpRule, Operand, normal_axis};

/// Resampling of axes.
pub struct Resize;

impl OpRule for Resize {
    fn ops(&self) -> &'static [&'static str] {
        &["Resize", "Upsample"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "resizing of the channel axis or to computed sizes";
        let Some(labels) = node.labels(0) else { return Flow::whole(reason) };
        match beside(node, labels) {
            Some(operands) => same_axis(node, operands),
            None if keeps_extent(node, labels) => whole_alike(node, reason),
            None => Flow::whole(reason),
        }
    }
}

/// The roles of the inputs of a node that resamples other axes than that of the channels only; `None` for
/// other nodes.
fn beside(node: &NodeView<'_>, labels: &Labels) -> Option<Vec<Operand>> {
    let mut operands = vec![Operand::Plain; node.node.inputs.len()];
    *operands.first_mut()? = Operand::Channels;
    let rank = node.shape(0)?.len();
    let axes: Vec<usize> = match node.node.ints("axes") {
        Some(axes) => axes.iter().map(|axis| normal_axis(*axis, rank)).collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    let Some(entry) = axes.iter().position(|axis| *axis == labels.axis) else {
        return Some(operands);
    };
    if crops(node.node) && !takes_all(node, entry, axes.len()) {
        return None;
    }
    match operands.get_mut(3).filter(|_| node.node.input(3).is_some()) {
        // Another policy than to stretch scales all axes alike.
        Some(sizes) => {
            let fits = stretches(node.node) && keeps_extent(node, labels);
            fits.then(|| *sizes = counted(entry, 1))?;
        }
        None => (*scales(node)?.get(entry)? == 1.0).then_some(())?,
    }
    Some(operands)
}

/// Whether a resize to sizes gives every axis its own, without regard to the others.
pub fn stretches(node: &Node) -> bool {
    node.str("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch")
}

/// Whether a resize takes a region of its operand.
pub fn crops(node: &Node) -> bool {
    node.str("coordinate_transformation_mode") == Some("tf_crop_and_resize")
}

/// Whether the region surely holds the whole axis that is entry `entry` of `count`.
fn takes_all(node: &NodeView<'_>, entry: usize, count: usize) -> bool {
    let region = || node.constant(1)?.to_f32().ok();
    region().is_some_and(|region| {
        let bounds = [entry, entry + count].map(|place| region.iter().nth(place).copied());
        bounds == [Some(0.0), Some(1.0)]
    })
}

/// Whether the axis of channels keeps its extent.
fn keeps_extent(node: &NodeView<'_>, labels: &Labels) -> bool {
    let to = node.output_shape(0);
    to.and_then(|to| to.get(labels.axis).and_then(Dim::known)) == Some(labels.atoms.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, Tensor, ValueId};
    use crate::ops::{Atom, infer};

    type Attributes = Vec<(&'static str, Attribute)>;

    /// The flow of three channels on axis 1 of maps of 5 × 5, resized by the node with these inputs behind
    /// the first.
    fn flow(
        inputs: impl Fn(&mut GraphBuilder) -> Vec<Option<ValueId>>,
        attributes: Attributes,
    ) -> Flow {
        let mut b = GraphBuilder::new("net", 18);
        let x = b.input("x", "2,3,5,5");
        let y = b.op("Resize", "y", &[x], []);
        let others = inputs(&mut b);
        let mut graph = b.build(&[y]).graph;
        let id = graph.producer(y).unwrap();
        graph.edit_node(id, |node| {
            node.inputs.extend(others);
            node.attributes.extend(attributes.into_iter().map(|(k, v)| (k.to_owned(), v)));
        });
        let ty = infer(&NodeView::new(&graph, id, &[])).remove(0);
        graph.set_type(y, ty);
        let mut labels = vec![None; graph.value_count()];
        labels[x.index()] = Some(Labels::along(1, (0..3).map(Atom).collect()));
        Resize.flow(&NodeView::new(&graph, id, &labels))
    }

    fn floats(b: &mut GraphBuilder, numbers: &[f32]) -> Option<ValueId> {
        let tensor = Tensor::from_f32(&ndarray::arr1(numbers).into_dyn());
        Some(b.constant("numbers", tensor))
    }

    fn roles(flow: Flow) -> Option<Vec<Operand>> {
        match flow {
            Flow::Partwise(partwise) => Some(partwise.operands),
            _ => None,
        }
    }

    #[test]
    fn sizes_follow_the_number_of_channels() {
        let sizes = |count: i64| {
            let to =
                move |b: &mut GraphBuilder| vec![None, None, Some(b.ints("to", &[2, count, 3, 3]))];
            roles(flow(to, Vec::new()))
        };
        let plain = Operand::Plain;
        let counted = Operand::Shape { entry: 1, width: 1 };
        assert_eq!(sizes(3), Some(vec![Operand::Channels, plain, plain, counted]));
        assert_eq!(sizes(4), None);
    }

    #[test]
    fn axes_beside_the_channels_are_resized_in_any_way() {
        let policies = [None, Some("not_larger"), Some("not_smaller")];
        for policy in policies {
            let policy = policy.map(|policy| ("keep_aspect_ratio_policy", policy.into()));
            let named = |axes: [i64; 2]| {
                let axes: Attributes =
                    [("axes", axes.into())].into_iter().chain(policy.clone()).collect();
                let to = |b: &mut GraphBuilder| vec![None, None, Some(b.ints("to", &[3, 4]))];
                roles(flow(to, axes))
            };
            assert!(named([2, 3]).is_some());
            assert!(named([-1, 2]).is_some());
            assert!(named([1, 2]).is_none() || policy.is_none());
        }
    }

    #[test]
    fn a_region_must_hold_all_channels() {
        let cropped = |bounds: [f32; 2]| {
            let crops = vec![("coordinate_transformation_mode", "tf_crop_and_resize".into())];
            let inputs = move |b: &mut GraphBuilder| {
                let [start, end] = bounds;
                let region = floats(b, &[0.0, start, 0.25, 0.0, 1.0, end, 0.75, 1.0]);
                vec![region, floats(b, &[1.0, 1.0, 2.0, 2.0])]
            };
            roles(flow(inputs, crops))
        };
        assert!(cropped([0.0, 1.0]).is_some());
        assert!(cropped([0.5, 1.0]).is_none());
    }

    #[test]
    fn scales_of_channels_end_them() {
        let scaled =
            |scale: f32| flow(move |b| vec![None, floats(b, &[1.0, scale, 2.0, 0.6])], Vec::new());
        assert!(roles(scaled(1.0)).is_some());
        assert_eq!(scaled(2.0), Flow::whole("resizing of the channel axis or to computed sizes"));
    }
}
