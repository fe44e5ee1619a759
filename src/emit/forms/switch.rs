//! The switch form: nested `If`s whose branches hold what only one task needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Node, NodeId, Tensor, TensorType, ValueId, ValueKind};
use crate::mtz::joint::JointModel;

use super::masked::add_task_input;

/// Turns a graph with one head per task into one with a branch per task. Weights and what several
/// tasks need stay in the outer graph.
pub(crate) fn switch(joint: &JointModel, mut graph: Graph) -> Result<Graph> {
    let per_task = split_outputs(joint, &graph);
    let needed = tasks_of_nodes(&graph, &per_task);
    let order = graph.topological_order()?;
    let selected = add_task_input(&mut graph);
    let conditions: Vec<ValueId> = (0..joint.tasks().len().saturating_sub(1))
        .map(|task| {
            let name = format!("{}/selected", joint.tasks()[task].name());
            let index = Tensor::from_i64(vec![1], &[task as i64]);
            let index = graph.add_initializer(&format!("{name}.index"), index);
            graph.add_op("Equal", &name, &[selected, index], [])
        })
        .collect();
    let branches: Vec<Vec<NodeId>> = (0..joint.tasks().len())
        .map(|task| {
            let own = BTreeSet::from([task]);
            order.iter().copied().filter(|n| needed.get(n) == Some(&own)).collect()
        })
        .collect();
    let ifs =
        Ifs { outer: &graph, per_task: &per_task, branches: &branches, conditions: &conditions };
    let names: Vec<(String, Option<TensorType>)> = graph
        .outputs
        .iter()
        .map(|o| (graph.value(*o).name.clone(), graph.value(*o).ty.clone()))
        .collect();
    let mut node = ifs.node(0);
    for id in branches.iter().flatten() {
        graph.remove_node(*id);
    }
    for output in std::mem::take(&mut graph.outputs) {
        graph.rename_value(output, "branch");
    }
    let outputs: Vec<ValueId> = names
        .into_iter()
        .map(|(name, ty)| graph.add_value(&name, ValueKind::Detached, ty))
        .collect();
    node.outputs = outputs.iter().copied().map(Some).collect();
    graph.add_node(node);
    graph.outputs = outputs;
    Ok(graph)
}

fn split_outputs(joint: &JointModel, graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut outputs = graph.outputs.iter().copied();
    joint
        .tasks()
        .iter()
        .map(|t| outputs.by_ref().take(t.model().graph.outputs.len()).collect())
        .collect()
}

fn tasks_of_nodes(graph: &Graph, per_task: &[Vec<ValueId>]) -> BTreeMap<NodeId, BTreeSet<usize>> {
    let mut needed: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
    for (task, outputs) in per_task.iter().enumerate() {
        let mut stack = outputs.clone();
        while let Some(value) = stack.pop() {
            let Some(node) = graph.producer(value) else { continue };
            if needed.entry(node).or_default().insert(task) {
                stack.extend(graph.node(node).reads());
            }
        }
    }
    needed
}

/// The values inside a branch that stand for outer ones.
type Inside = HashMap<ValueId, ValueId>;

/// What the nested `If`s are made from.
struct Ifs<'a> {
    outer: &'a Graph,
    per_task: &'a [Vec<ValueId>],
    branches: &'a [Vec<NodeId>],
    conditions: &'a [ValueId],
}

impl Ifs<'_> {
    /// The `If` that chooses between `task` and all behind it; it reads values of the outer graph.
    fn node(&self, task: usize) -> Node {
        let then_branch = self.branch(task);
        let else_branch = if task + 1 < self.conditions.len() {
            self.nested(task + 1)
        } else {
            self.branch(task + 1)
        };
        Node {
            name: format!("switch.{task}"),
            op: "If".to_owned(),
            inputs: vec![self.conditions.get(task).copied()],
            attributes: BTreeMap::from([
                ("then_branch".to_owned(), Attribute::Graph(Box::new(then_branch))),
                ("else_branch".to_owned(), Attribute::Graph(Box::new(else_branch))),
            ]),
            ..Node::default()
        }
    }

    /// A branch that holds the next `If`; it captures what that one reads.
    fn nested(&self, task: usize) -> Graph {
        let mut graph = Graph::new(format!("else.{task}"));
        let mut node = self.node(task);
        let mut inner: HashMap<ValueId, ValueId> = HashMap::new();
        let mut capture = |graph: &mut Graph, outer: ValueId| {
            *inner.entry(outer).or_insert_with(|| {
                let name = format!("switch.{task}/{}", self.outer.value(outer).name);
                graph.add_value(&name, ValueKind::Captured(outer), None)
            })
        };
        for input in node.inputs.iter_mut().flatten() {
            *input = capture(&mut graph, *input);
        }
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(sub) = attribute {
                sub.recapture(|outer| capture(&mut graph, outer));
            }
        }
        let outputs: Vec<ValueId> = self
            .per_task
            .iter()
            .flatten()
            .map(|o| {
                let value = self.outer.value(*o);
                let name = format!("switch.{task}.out/{}", value.name);
                graph.add_value(&name, ValueKind::Detached, value.ty.clone())
            })
            .collect();
        node.outputs = outputs.iter().copied().map(Some).collect();
        graph.add_node(node);
        graph.outputs = outputs;
        graph
    }

    /// The branch of one task: its own nodes, and zeros for every output of the others.
    fn branch(&self, task: usize) -> Graph {
        let mut graph = Graph::new(format!("task.{task}"));
        let mut map = Inside::new();
        for id in &self.branches[task] {
            let mut node = self.outer.node(*id).clone();
            // Runtimes name what they derive from a node after it, e.g. `conv1.bias`, which must not
            // be the name of an initializer that the branch captures.
            node.name = format!("branch.{task}/{}", node.name);
            for input in node.inputs.iter_mut().flatten() {
                *input = self.inside(&mut graph, &mut map, task, *input);
            }
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    sub.recapture(|outer| self.inside(&mut graph, &mut map, task, outer));
                }
            }
            for output in node.outputs.iter_mut().flatten() {
                let value = self.outer.value(*output);
                let name = format!("branch.{task}/{}", value.name);
                let copy = graph.add_value(&name, ValueKind::Detached, value.ty.clone());
                map.insert(*output, copy);
                *output = copy;
            }
            graph.add_node(node);
        }
        for (owner, outputs) in self.per_task.iter().enumerate() {
            for output in outputs {
                let value = if owner == task {
                    let own = self.inside(&mut graph, &mut map, task, *output);
                    // A branch must compute its outputs itself.
                    if graph.producer(own).is_some() {
                        own
                    } else {
                        let ty = self.outer.value(*output).ty.clone();
                        let copy =
                            graph.add_op("Identity", &format!("branch.{task}/out"), &[own], []);
                        graph.set_type(copy, ty);
                        copy
                    }
                } else {
                    self.zeros(&mut graph, &mut map, task, *output)
                };
                graph.outputs.push(value);
            }
        }
        graph
    }

    /// The value inside a branch that stands for an outer one.
    fn inside(&self, graph: &mut Graph, map: &mut Inside, task: usize, outer: ValueId) -> ValueId {
        *map.entry(outer).or_insert_with(|| {
            let name = format!("branch.{task}/{}", self.outer.value(outer).name);
            graph.add_value(&name, ValueKind::Captured(outer), None)
        })
    }

    /// Zeros in the shape of an output of another task, for as many samples as the task's input has.
    /// Where that shape cannot be told, nothing at all.
    fn zeros(&self, graph: &mut Graph, map: &mut Inside, task: usize, output: ValueId) -> ValueId {
        let value = self.outer.value(output);
        let name = format!("branch.{task}/{}.none", value.name);
        let ty = value.ty.as_ref();
        let dtype = ty.map_or(DataType::F32, |t| t.dtype);
        let dims = ty.and_then(|t| t.shape.as_ref());
        let fixed: Option<Vec<i64>> = dims
            .and_then(|d| d.get(1..))
            .and_then(|d| d.iter().map(|d| Some(d.known()? as i64)).collect());
        let samples = self.outer.inputs.first().copied();
        let (Some(fixed), Some(samples), Some(size)) = (fixed, samples, dtype.size()) else {
            let tensor = Tensor { dtype, dims: vec![0], data: bytes::Bytes::new() };
            return graph.add_op("Constant", &name, &[], [("value", Attribute::Tensor(tensor))]);
        };
        let constant = |graph: &mut Graph, values: &[i64]| {
            let tensor = Tensor::from_i64(vec![values.len()], values);
            graph.add_op("Constant", &name, &[], [("value", Attribute::Tensor(tensor))])
        };
        let input = self.inside(graph, map, task, samples);
        let shape = graph.add_op("Shape", &name, &[input], []);
        let first = constant(graph, &[0]);
        let batch = graph.add_op("Gather", &name, &[shape, first], []);
        let rest = constant(graph, &fixed);
        let axis = [("axis", Attribute::Int(0))];
        let shape = graph.add_op("Concat", &name, &[batch, rest], axis);
        let zero = Tensor { dtype, dims: vec![1], data: vec![0; size].into() };
        graph.add_op("ConstantOfShape", &name, &[shape], [("value", Attribute::Tensor(zero))])
    }
}
