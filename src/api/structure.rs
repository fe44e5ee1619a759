//! Describes the structure of prepared nets.

use crate::align::Lineage;
use crate::couple::{LayerId, outside};
use crate::report::{FrozenRecord, LineageRecord, OutsideRecord, Structure, decidable};
use crate::zipper::Prepared;

/// How to share layers in branches that inputs decide about, a sentence for each such task.
pub(crate) fn decidable_of<'a>(
    structure: &'a Structure,
    tasks: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = String> {
    let each = structure.outside.iter().zip(tasks);
    each.filter_map(|(records, task)| Some(format!("{task}: {}", decidable(records)?)))
}

/// The parts of prepared nets that correspond, and those that cannot be shared.
pub(crate) fn structure(prepared: &Prepared) -> Structure {
    let (tasks, alignment) = (prepared.joint.tasks(), &prepared.alignment);
    // A layer that repeats another one has a counterpart where that one has.
    let matched = |task: usize, id: LayerId| {
        let first = tasks[task].coupling().first_use(id);
        alignment.common().any(|site| site.layers[task] == Some(first))
    };
    let record = |lineage: &Lineage| LineageRecord {
        task: tasks[lineage.net.0].name().to_owned(),
        parent: tasks[lineage.parent.0].name().to_owned(),
        distance: lineage.distance,
        layers: lineage.layers.len(),
        groups: lineage.groups.len(),
    };
    let mut structure = Structure {
        divergences: alignment.divergences.clone(),
        lineages: alignment.lineages.iter().map(record).collect(),
        ..Structure::default()
    };
    for (number, task) in tasks.iter().enumerate() {
        let layers = task.coupling().layers.iter().enumerate();
        let alone = layers.filter(|(i, _)| !matched(number, LayerId(*i)));
        structure.unmatched.push(alone.map(|(_, layer)| layer.name.clone()).collect());
        let outside = outside(task.graph(), task.coupling());
        structure.outside.push(OutsideRecord::by_reason(outside));
        // Channels of inputs and outputs are never shared, so no reason is given.
        let groups = task.coupling().groups.iter().filter(|g| g.end().is_none());
        structure.frozen.extend(groups.filter_map(|group| {
            Some(FrozenRecord {
                task: task.name().to_owned(),
                group: group.name.clone(),
                channels: group.size,
                reason: group.frozen.as_ref()?.to_string(),
            })
        }));
    }
    structure
}
