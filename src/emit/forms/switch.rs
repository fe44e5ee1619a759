//! The switch form: nested `If`s, whose branches hold the nodes that only one task needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Node, NodeId, Tensor, Value, ValueId, ValueKind};
use crate::mtz::joint::{JointModel, Task};

use super::absent::Zeros;
use super::masked::add_task_input;

/// Operators that compute sizes from sizes.
const SIZE_OPERATORS: &[&str] = &[
    "Add",
    "Cast",
    "Concat",
    "Div",
    "Gather",
    "Identity",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
];

/// Limit of elements of constants that branches repeat.
const SMALL: usize = 16;

/// Turns a graph with one head per task into one with a branch per task. Weights, and nodes that several
/// tasks need, stay in the outer graph. `inputs` are the graph's inputs for each task.
pub(crate) fn switch(
    joint: &JointModel,
    mut graph: Graph,
    inputs: &[Vec<ValueId>],
) -> Result<Graph> {
    let per_task = split_outputs(joint, &graph);
    let needed = tasks_of_nodes(&graph, &per_task);
    let order = graph.topological_order()?;
    let selected = add_task_input(&mut graph);
    let conditions = conditions(joint, &mut graph, selected);
    let sizes = size_nodes(&graph, &order);
    let mut moved: BTreeSet<NodeId> = BTreeSet::new();
    let branches: Vec<Vec<NodeId>> = (0..joint.tasks().len())
        .map(|task| {
            let own = BTreeSet::from([task]);
            let own = order.iter().copied().filter(|n| needed.get(n) == Some(&own));
            let own: BTreeSet<NodeId> = own.collect();
            moved.extend(&own);
            let inside = with_sizes(&graph, own, &sizes);
            order.iter().copied().filter(|n| inside.contains(n)).collect()
        })
        .collect();
    let ifs = Ifs {
        joint,
        outer: &graph,
        inputs,
        per_task: &per_task,
        branches: &branches,
        conditions: &conditions,
    };
    let node = ifs.node(0);
    moved.into_iter().for_each(|id| graph.remove_node(id));
    give_outputs(&mut graph, node);
    // Sizes that every branch computes by itself.
    graph.remove_dead_nodes();
    Ok(graph)
}

/// Whether each task but the last is selected.
fn conditions(joint: &JointModel, graph: &mut Graph, selected: ValueId) -> Vec<ValueId> {
    let but_last = joint.tasks().len().saturating_sub(1);
    let condition = |(number, task): (usize, &Task)| {
        let name = format!("{}/selected", task.name());
        let index = Tensor::from_i64(vec![1], &[number as i64]);
        let index = graph.add_initializer(&format!("{name}.index"), index);
        graph.add_op("Equal", &name, &[selected, index], [])
    };
    joint.tasks().iter().enumerate().take(but_last).map(condition).collect()
}

/// Adds a node that computes all outputs of the graph.
fn give_outputs(graph: &mut Graph, mut node: Node) {
    let named: Vec<Value> = graph.outputs.iter().map(|o| graph.value(*o).clone()).collect();
    for output in std::mem::take(&mut graph.outputs) {
        graph.rename_value(output, "branch");
    }
    let outputs: Vec<ValueId> = named
        .into_iter()
        .map(|value| graph.add_value(&value.name, ValueKind::Detached, value.ty))
        .collect();
    node.outputs = outputs.iter().copied().map(Some).collect();
    graph.add_node(node);
    graph.outputs = outputs;
}

/// The nodes that compute sizes: they read shapes, constants and each other only.
fn size_nodes(graph: &Graph, order: &[NodeId]) -> BTreeSet<NodeId> {
    let mut sizes = BTreeSet::new();
    for id in order {
        let node = graph.node(*id);
        let is_known = |value: ValueId| {
            let of_size = graph.producer(value).is_some_and(|from| sizes.contains(&from));
            of_size || graph.initializer(value).is_some_and(is_small)
        };
        let computes = SIZE_OPERATORS.iter().any(|op| node.is(op)) && node.reads().all(is_known);
        if node.is("Shape") || computes {
            sizes.insert(*id);
        }
    }
    sizes
}

/// Adds the nodes of `sizes` that others read: checkers follow sizes inside a branch only.
fn with_sizes(
    graph: &Graph,
    mut inside: BTreeSet<NodeId>,
    sizes: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let mut open: Vec<NodeId> = inside.iter().copied().collect();
    while let Some(id) = open.pop() {
        let read = graph.node(id).reads().filter_map(|value| graph.producer(value));
        for from in read.filter(|from| sizes.contains(from)) {
            if inside.insert(from) {
                open.push(from);
            }
        }
    }
    inside
}

/// Whether a constant may be repeated in every branch: bounds, axes and the like.
fn is_small(tensor: &Tensor) -> bool {
    tensor.len() <= SMALL && matches!(tensor.dtype, DataType::I64 | DataType::I32)
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

/// The values inside a branch, by the outer values that they represent.
type Inside = HashMap<ValueId, ValueId>;

/// The material of the nested `If`s.
struct Ifs<'a> {
    joint: &'a JointModel,
    outer: &'a Graph,
    inputs: &'a [Vec<ValueId>],
    per_task: &'a [Vec<ValueId>],
    branches: &'a [Vec<NodeId>],
    conditions: &'a [ValueId],
}

impl Ifs<'_> {
    /// The `If` that selects `task` or one of the later tasks; it reads values of the outer graph.
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

    /// A branch that holds the next `If`, and captures the values that this `If` reads.
    fn nested(&self, task: usize) -> Graph {
        let mut graph = Graph::new(format!("else.{task}"));
        let mut node = self.node(task);
        let mut inner: HashMap<ValueId, ValueId> = HashMap::new();
        node.redirect(|outer| {
            *inner.entry(outer).or_insert_with(|| {
                let name = format!("switch.{task}/{}", self.outer.value(outer).name);
                graph.add_value(&name, ValueKind::Captured(outer), None)
            })
        });
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
            // Runtimes derive names from names of nodes, e.g. `conv1.bias`. Those must not collide with
            // the names of captured initializers.
            node.name = format!("branch.{task}/{}", node.name);
            node.redirect(|read| self.inside(&mut graph, &mut map, task, read));
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
                    self.absent(&mut graph, &mut map, task, (owner, *output))
                };
                graph.outputs.push(value);
            }
        }
        graph
    }

    /// The value inside a branch that represents an outer value.
    fn inside(&self, graph: &mut Graph, map: &mut Inside, task: usize, outer: ValueId) -> ValueId {
        *map.entry(outer).or_insert_with(|| {
            let name = format!("branch.{task}/{}", self.outer.value(outer).name);
            match self.outer.initializer(outer).filter(|tensor| is_small(tensor)) {
                // Checkers do not know the elements of captured constants, from which sizes follow.
                Some(tensor) => {
                    let value = ("value", Attribute::Tensor(tensor.clone()));
                    graph.add_op("Constant", &name, &[], [value])
                }
                None => graph.add_value(&name, ValueKind::Captured(outer), None),
            }
        })
    }

    /// Zeros in place of an output of task `owner` in the branch of `task`.
    fn absent(
        &self,
        graph: &mut Graph,
        map: &mut Inside,
        task: usize,
        (owner, output): (usize, ValueId),
    ) -> ValueId {
        let value = self.outer.value(output);
        let name = format!("branch.{task}/{}.none", value.name);
        let mut zeros = Zeros {
            task: &self.joint.tasks()[owner],
            graph,
            name,
            input: |graph: &mut Graph, input: usize| {
                self.inside(graph, map, task, self.inputs[owner][input])
            },
            shapes: BTreeMap::new(),
        };
        zeros.add(value.ty.as_ref())
    }
}
