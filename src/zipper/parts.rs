//! The nets and joint models to merge, and what joint models share already.

use std::collections::BTreeSet;

use crate::align::{Alignment, Site, TaskId, TaskLayer};
use crate::couple::{End, LayerId};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::{Based, Fused, JointModel, Neuron, Sharing, Task};

/// A net to merge.
pub struct Input {
    /// Name of the task; prefix of its outputs.
    pub name: String,
    /// The net as loaded.
    pub model: Model,
}

/// A model to merge: a net, or a joint model to be extended.
pub enum Part {
    /// One task.
    Net(Box<Input>),
    /// Tasks that share neurons already.
    Joint(JointModel),
}

/// The sharing of a joint model's task.
pub(super) struct Known {
    /// Per group and channel.
    neurons: Vec<Vec<Option<Neuron>>>,
    /// Per layer.
    fused: Vec<Option<u32>>,
    /// Layers whose weights are sums with a common part.
    sums: Vec<(LayerId, Based)>,
}

/// Layers of a joint model whose weights are sums with a common part.
pub(super) type Sums = Vec<(TaskLayer, Based)>;

impl Known {
    /// Whether output neurons of `task` are shared.
    pub(super) fn shares_outputs(&self, task: &Task) -> bool {
        let mut groups = task.coupling().groups.iter().zip(&self.neurons);
        groups.any(|(group, neurons)| {
            group.end() == Some(End::Output) && neurons.iter().any(Option::is_some)
        })
    }
}

/// All tasks with their sharing. Numbers of different joint models are kept apart.
pub(super) fn tasks_of(parts: Vec<Part>) -> (Vec<Input>, Vec<Option<Known>>) {
    let (mut inputs, mut known) = (Vec::new(), Vec::new());
    let (mut neurons, mut layers, mut bases) = (0, 0, 0);
    for part in parts {
        let joint = match part {
            Part::Net(input) => {
                inputs.push(*input);
                known.push(None);
                continue;
            }
            Part::Joint(joint) => joint,
        };
        for (task, net) in joint.task_ids().zip(joint.tasks()) {
            let moved = |n: &Option<Neuron>| n.map(|n| Neuron(n.0 + neurons));
            let groups = joint.sharing(task).iter();
            let sum = |id: LayerId| {
                let based = joint.based_layer(task.layer(id))?.clone();
                Some((id, Based { number: based.number + bases, ..based }))
            };
            known.push(Some(Known {
                neurons: groups.map(|g| g.iter().map(moved).collect()).collect(),
                fused: joint.fused()[task.0].iter().map(|f| f.map(|f| f + layers)).collect(),
                sums: (0..net.coupling().layers.len()).map(LayerId).filter_map(sum).collect(),
            }));
            inputs.push(Input { name: net.name().to_owned(), model: net.model().clone() });
        }
        let all = joint.task_ids().flat_map(|t| joint.sharing(t).iter().flatten().flatten());
        neurons += all.map(|n| n.0 + 1).max().unwrap_or(0);
        layers += joint.fused().iter().flatten().flatten().map(|f| f + 1).max().unwrap_or(0);
        bases += joint.next_base();
    }
    (inputs, known)
}

/// The joint model of tasks with given sharing, and the weights that are sums: sharing more comes before
/// [`keep_sums`].
pub(super) fn restored(tasks: Vec<Task>, known: Vec<Option<Known>>) -> Result<(JointModel, Sums)> {
    if known.iter().all(Option::is_none) {
        return Ok((JointModel::new(tasks), Sums::new()));
    }
    let (mut sharing, mut fused): (Sharing, Fused) = (Vec::new(), Vec::new());
    let mut sums = Sums::new();
    for ((id, task), known) in (0..).map(TaskId).zip(&tasks).zip(known) {
        let groups: Vec<usize> = task.coupling().groups.iter().map(|g| g.size).collect();
        let layers = task.coupling().layers.len();
        let own = known.unwrap_or_else(|| Known {
            neurons: groups.iter().map(|n| vec![None; *n]).collect(),
            fused: vec![None; layers],
            sums: Vec::new(),
        });
        if own.neurons.iter().map(Vec::len).ne(groups) {
            return Err(changed().in_model(task.name()));
        }
        sharing.push(own.neurons);
        fused.push(own.fused);
        sums.extend(own.sums.into_iter().map(|(layer, based)| (id.layer(layer), based)));
    }
    let joint = JointModel::with_sharing(tasks, sharing, fused).ok_or_else(changed)?;
    Ok((joint, sums))
}

/// Stores weights as the sums that they are in the joint models' files.
///
/// # Errors
/// [`ErrorKind::Format`] if one is another weight.
pub(super) fn keep_sums(joint: &mut JointModel, sums: Sums) -> Result<()> {
    for (own, based) in sums {
        if !joint.set_based(own, based) {
            return Err(changed().in_model(joint.task(own.task).name()));
        }
    }
    Ok(())
}

fn changed() -> Error {
    Error::new(ErrorKind::Format, "the joint model's recipe does not fit its nets")
        .hint("merge the original models again")
}

/// The places of layers of a joint model with shared neurons and separate weights, or weights that are
/// `sums`.
pub(super) fn left_to_tasks(
    joint: &JointModel,
    sums: &Sums,
    alignment: &Alignment,
) -> BTreeSet<usize> {
    let neurons = |own: TaskLayer| -> BTreeSet<Neuron> {
        let outputs = &joint.layer(own).outputs;
        outputs.iter().filter_map(|channel| joint.neuron(own.task.channel(*channel))).collect()
    };
    let is_left = |site: &Site| {
        let members: Vec<TaskLayer> = site.members().collect();
        if sums.iter().any(|(own, _)| members.contains(own)) {
            return true;
        }
        members.iter().enumerate().any(|(at, one)| {
            let partners = joint.partners(*one);
            let apart = members[at + 1..].iter().filter(|other| !partners.contains(&other.task));
            let own = neurons(*one);
            apart.into_iter().any(|other| !own.is_disjoint(&neurons(*other)))
        })
    };
    let places = alignment.sites.iter().enumerate();
    places.filter(|(_, site)| is_left(site)).map(|(place, _)| place).collect()
}
