//! Model inputs that layers write to as well, as in `x + f(x)`.
//!
//! Channels of an input have one order in all nets, and so have the rows of such a layer. So they correspond
//! by index, without a search.

use std::collections::BTreeSet;

use crate::couple::GroupId;

use super::{Correspondence, Net, TaskGroup, TaskLayer, members};

/// Inputs that layers write to in several nets.
#[derive(Default)]
pub(super) struct CoupledInputs {
    /// The corresponding inputs, including those of nets that only read them.
    pub(super) inputs: Vec<Correspondence>,
    /// The groups that layers write to.
    pub(super) groups: BTreeSet<TaskGroup>,
    /// These layers.
    pub(super) layers: BTreeSet<TaskLayer>,
}

/// Adds the groups of `inputs` that layers write to to the correspondences, although they are frozen.
pub(super) fn add_groups(
    nets: &[Net<'_>],
    inputs: &[Correspondence],
    classes: &mut Vec<Correspondence>,
) -> CoupledInputs {
    let mut found = CoupledInputs::default();
    for input in inputs.iter().filter(|input| are_alike(nets, input)) {
        let is_written = |own: &TaskGroup| is_written(nets[own.task.0], own.group);
        let written: Vec<TaskGroup> = members(input).filter(is_written).collect();
        let is_known =
            |own: TaskGroup| classes.iter().any(|class| class[own.task.0] == Some(own.group));
        if written.len() < 2 || members(input).any(is_known) {
            continue;
        }
        let mut class = vec![None; nets.len()];
        for own in written {
            class[own.task.0] = Some(own.group);
            let producers = &nets[own.task.0].coupling.group(own.group).producers;
            found.layers.extend(producers.iter().map(|layer| own.task.layer(*layer)));
            found.groups.insert(own);
        }
        classes.push(class);
        found.inputs.push(input.clone());
    }
    found
}

/// Whether corresponding groups have equally many channels, and none in attention heads.
fn are_alike(nets: &[Net<'_>], input: &Correspondence) -> bool {
    let size = |TaskGroup { task, group }: TaskGroup| {
        let coupling = nets[task.0].coupling;
        let mut nests = coupling.nests.iter();
        let is_plain = nests.all(|nest| nest.channels != group && nest.heads != group);
        is_plain.then(|| coupling.group(group).size)
    };
    let sizes: BTreeSet<Option<usize>> = members(input).map(size).collect();
    sizes.len() == 1 && !sizes.contains(&None)
}

/// Whether layers write to a group. Those whose rows reach an answer are the task's own, unless outputs are
/// shared.
fn is_written(net: Net<'_>, group: GroupId) -> bool {
    let group = net.coupling.group(group);
    !group.producers.is_empty() && (net.shares_outputs || !group.reaches_answer)
}
