//! Removes data of a joint model that a run does not need.

use std::collections::HashSet;

use crate::ir::{Attribute, Graph, Model, ValueId, ValueKind};

/// Prefix of the keys of our metadata.
const OWN_KEYS: &str = "onnx_zip.";

/// The joint model without our metadata, and with inner values and nodes named by numbers and without
/// types. Inputs and outputs stay the same.
pub fn stripped(mut model: Model) -> Model {
    model.metadata.retain(|key, _| !key.starts_with(OWN_KEYS));
    let ends: HashSet<ValueId> =
        model.graph.inputs.iter().chain(&model.graph.outputs).copied().collect();
    number(&mut model.graph, &ends, &mut 0);
    model
}

/// Names values (except `ends`) and nodes of a graph and of its sub-graphs by numbers.
fn number(graph: &mut Graph, ends: &HashSet<ValueId>, count: &mut usize) {
    let values: Vec<ValueId> = graph.values().map(|(id, _)| id).collect();
    for id in values.into_iter().filter(|id| !ends.contains(id)) {
        let letter = match graph.value(id).kind {
            ValueKind::Captured(_) => continue,
            ValueKind::Initializer(_) => 'w',
            ValueKind::Input | ValueKind::Computed(_) | ValueKind::Detached => 'v',
        };
        if letter == 'v' && !graph.inputs.contains(&id) && !graph.outputs.contains(&id) {
            graph.set_type(id, None);
        }
        *count += 1;
        graph.rename_value(id, &format!("{letter}{count}"));
    }
    let nodes: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
    for id in nodes {
        graph.edit_node(id, |node| {
            *count += 1;
            node.name = format!("n{count}");
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    number(sub, &HashSet::new(), count);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{FORM_KEY, RECIPE_KEY};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn ends_keep_their_names_and_types() {
        let mut b = GraphBuilder::new("net", 13);
        let (x, w) = (b.input("x", "n,3"), b.weights("a/long/name", &[2, 3]));
        let h = b.op("Gemm", "layer", &[x, w], [("transB", 1.into())]);
        let y = b.op("Relu", "n1", &[h], []);
        let mut model = b.build(&[y]);
        crate::canon::infer_types(&mut model.graph).unwrap();
        for key in [RECIPE_KEY, FORM_KEY, "other"] {
            model.metadata.insert(key.into(), "text".into());
        }
        let graph = &model.graph;
        let ends = |g: &Graph| [x, y].map(|v| (g.value(v).name.clone(), g.value(v).ty.clone()));
        let before = ends(graph);
        let small = stripped(model);
        assert_eq!(ends(&small.graph), before);
        assert_eq!(small.metadata.keys().collect::<Vec<_>>(), ["other"]);
        assert_eq!(
            (small.graph.value(w).name.as_str(), small.graph.value(h).ty.as_ref()),
            ("w1", None)
        );
    }
}
