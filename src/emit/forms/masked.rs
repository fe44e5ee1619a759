//! The masked form: shared neurons are computed once, for the selected task.
//!
//! A shared neuron's pre-activation is the sum of products that are common to all its tasks, and of
//! products with task-specific inputs. The latter pass through the gates of their tasks.

use std::collections::{BTreeMap, BTreeSet};

use crate::emit::builder::Builder;
use crate::emit::nodes::layer::add_up;
use crate::ir::{DataType, Dim, Graph, Node, TensorType, ValueId, ValueKind};
use crate::mtz::joint::{JointModel, Neuron, Owner};

use super::extents::Extents;
use super::gates::Gates;

/// Name of the input that selects the task.
pub(crate) const TASK_INPUT: &str = "task";

/// A block of shared neurons of one layer: its first neuron, the number of the fused layers, the extents of the
/// output, and the number of rows. Layers with different strides or pads share weights, but no sums; nor do heads of
/// different widths.
type Key = (Neuron, u32, Extents, usize);

/// Sums that several tasks contribute to.
pub(crate) struct Sums {
    gates: Gates,
    /// The types of the tasks' outputs.
    outputs: Vec<Vec<DataType>>,
    sums: BTreeMap<Key, Sum>,
}

struct Sum {
    value: ValueId,
    name: String,
    dtype: DataType,
    owners: BTreeSet<usize>,
    /// Each term with the tasks that contribute it, in order of first contribution.
    terms: Vec<(ValueId, BTreeSet<usize>)>,
}

impl Sums {
    pub(crate) fn new(joint: &JointModel, builder: &mut Builder) -> Self {
        let selected = add_task_input(&mut builder.graph);
        let gates = Gates::new(joint, builder, selected);
        let outputs = joint.tasks().iter().map(|task| {
            let graph = task.graph();
            let dtype = |id: &ValueId| graph.type_of(*id).map_or(DataType::F32, |ty| ty.dtype);
            graph.outputs.iter().map(dtype).collect()
        });
        Sums { gates, outputs: outputs.collect(), sums: BTreeMap::new() }
    }

    /// Adds a task's terms, of type `dtype`, to the sum `key` and returns the sum's value.
    pub(crate) fn add(
        &mut self,
        builder: &mut Builder,
        (key, dtype): (Key, DataType),
        (owner, name): (&Owner, &str),
        (task, terms): (usize, &[ValueId]),
    ) -> ValueId {
        let sum = self.sums.entry(key).or_insert_with(|| Sum {
            value: builder.graph.add_value(&format!("{name}.sum"), ValueKind::Detached, None),
            name: name.to_owned(),
            dtype,
            owners: match owner {
                Owner::Tasks(tasks) => tasks.iter().map(|task| task.0).collect(),
                Owner::Input => BTreeSet::new(),
            },
            terms: Vec::new(),
        });
        for term in terms {
            match sum.terms.iter_mut().find(|(t, _)| t == term) {
                Some((_, tasks)) => {
                    tasks.insert(task);
                }
                None => sum.terms.push((*term, BTreeSet::from([task]))),
            }
        }
        sum.value
    }

    /// Writes all sums and the gated outputs.
    pub(crate) fn finish(
        self,
        builder: &mut Builder,
        outputs: Vec<Vec<ValueId>>,
    ) -> Vec<Vec<ValueId>> {
        let mut gated = Vec::new();
        for (task, (values, types)) in outputs.iter().zip(&self.outputs).enumerate() {
            let gate = |(value, dtype): (&ValueId, &DataType)| {
                let name = format!("{}.gated", builder.graph.value(*value).name);
                self.gates.gated(builder, [task], *value, *dtype, &name)
            };
            gated.push(values.iter().zip(types).map(gate).collect());
        }
        for sum in self.sums.values() {
            write_sum(builder, &self.gates, sum);
        }
        gated
    }
}

fn write_sum(builder: &mut Builder, gates: &Gates, sum: &Sum) {
    let (common, masked): (Vec<_>, Vec<_>) =
        sum.terms.iter().partition(|(_, tasks)| *tasks == sum.owners);
    let mut terms: Vec<ValueId> = common.into_iter().map(|(term, _)| *term).collect();
    for (term, tasks) in masked {
        let name = format!("{}.masked", builder.graph.value(*term).name);
        terms.push(gates.gated(builder, tasks.iter().copied(), *term, sum.dtype, &name));
    }
    match terms.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            let partial = add_up(builder, rest, &sum.name);
            let name = builder.graph.value(sum.value).name.clone();
            builder.graph.add_node(Node {
                name,
                op: "Add".to_owned(),
                inputs: vec![Some(partial), Some(*last)],
                outputs: vec![Some(sum.value)],
                ..Node::default()
            });
        }
        Some((only, _)) => builder.graph.replace_uses(sum.value, *only),
        None => {}
    }
}

/// Adds the input that selects the task: one 64-bit integer, the task's index.
pub(crate) fn add_task_input(graph: &mut Graph) -> ValueId {
    let ty = TensorType { dtype: DataType::I64, shape: Some(vec![Dim::Known(1)]) };
    graph.add_input(TASK_INPUT, ty)
}
