//! Gives channels an axis of their own where a reshape merges them with the batch.
//!
//! Nets that cut feature maps into patches write a reshape of [batch, channels, height, width] to
//! [batch·channels·rows, height of a patch, columns, width of a patch], a transpose that leaves the first
//! axis in place, and a reshape back. Channels cannot be followed through the merged axis.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, Tensor};

use super::CanonOptions;
use super::rewire::added;
use super::types::shape;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(output) = graph.node(id).output(0) else { continue };
        let readers = readers.get(output.index()).map_or(&[][..], Vec::as_slice);
        modified |= split(graph, id, readers).is_some();
    }
    Ok(modified)
}

/// Splits the first axis of a transpose behind a reshape into batch, channels and the rest, if all
/// `readers` of the transpose are reshapes that depend on the order of elements only.
fn split(graph: &mut Graph, id: NodeId, readers: &[NodeId]) -> Option<()> {
    let node = graph.node(id);
    let (merged, output) = (node.input(0)?, node.output(0)?);
    let perm: Vec<i64> = node.ints("perm").filter(|_| node.is("Transpose"))?.to_vec();
    let before = graph.node(graph.producer(merged)?);
    let source = before.input(0).filter(|_| before.is("Reshape") && perm.first() == Some(&0))?;
    let is_free = |reader: &NodeId| {
        let reader = graph.node(*reader);
        let target = || graph.initializer(reader.input(1)?)?.to_i64();
        reader.is("Reshape")
            && reader.input(0) == Some(output)
            && target().is_some_and(|sizes| !sizes.contains(&0))
    };
    if readers.is_empty() || graph.outputs.contains(&output) || !readers.iter().all(is_free) {
        return None;
    }
    let (from, to) = (shape(graph, source)?, shape(graph, merged)?);
    let target = apart(&from, &to)?;
    let more = target.len() as i64 - to.len() as i64;
    let name = node.name.clone();
    let target = Tensor::from_i64(vec![target.len()], &target);
    let target = graph.add_initializer(&format!("{name}.target"), target);
    let apart = added(graph, "Reshape", &format!("{name}.apart"), &[source, target], []);
    let perm = (0..=more).chain(perm[1..].iter().map(|axis| axis + more)).collect();
    let perm = [("perm", Attribute::Ints(perm))];
    let moved = added(graph, "Transpose", &format!("{name}.apart"), &[apart], perm);
    for reader in readers {
        graph.edit_node(*reader, |node| node.inputs[0] = Some(moved));
    }
    Some(())
}

/// The target of a reshape of `from` that is `to` but for its first axis, which is split into batch,
/// channels and what is left of it; `None` if it does not begin with them or need not be split.
fn apart(from: &[Dim], to: &[Dim]) -> Option<Vec<i64>> {
    let ([batch, channels, rest @ ..], [first, behind @ ..]) = (from, to) else { return None };
    let channels = channels.known().filter(|n| *n > 1)?;
    let product = |extents: &[Dim]| Dim::product(extents).known();
    let (all, kept) = (product(rest)?, product(behind).filter(|n| *n > 0)?);
    if rest.is_empty() || all % kept != 0 || first.is_surely(batch) {
        return None;
    }
    let left = Some(all / kept).filter(|n| *n > 1);
    let behind: Vec<usize> = behind.iter().map(Dim::known).collect::<Option<_>>()?;
    let extents = [0, channels].into_iter().chain(left).chain(behind);
    Some(extents.map(|extent| extent as i64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_merged_axis_is_split() {
        let dims = |spec: &[i64]| -> Vec<Dim> {
            let dim = |d: &i64| usize::try_from(*d).map_or(Dim::Symbol("n".into()), Dim::Known);
            spec.iter().map(dim).collect()
        };
        let apart = |from: &[i64], to: &[i64]| apart(&dims(from), &dims(to));
        // Into patches, and back.
        assert_eq!(apart(&[2, 64, 8, 8], &[512, 2, 4, 2]), Some(vec![0, 64, 4, 2, 4, 2]));
        assert_eq!(apart(&[2, 64, 16, 4], &[512, 4, 2, 2]), Some(vec![0, 64, 4, 4, 2, 2]));
        assert_eq!(apart(&[2, 64, 8, 8], &[128, 4, 16]), Some(vec![0, 64, 4, 16]));
        // The axis holds the batch alone, or a part of a channel's neighbours.
        assert_eq!(apart(&[2, 64, 8, 8], &[2, 64, 64]), None);
        assert_eq!(apart(&[2, 6, 5, 5], &[100, 3]), None);
    }
}
