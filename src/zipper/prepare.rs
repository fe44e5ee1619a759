//! Prepares nets without data: canonical form, coupling and alignment.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::align::{
    Alignment, Lineage, Matching, Net, Site, TaskChannel, TaskGroup, TaskLayer, align, inputs_like,
    order_like,
};
use crate::canon::{BatchNorm, CanonOptions, Canonical, canonicalise, oldest_opset};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::options::layer_pattern;
use crate::mtz::plan::{heads_like, units_like};

use super::parts::{Input, Part, keep_sums, left_to_tasks, restored, tasks_of};

/// The oldest operator set of a canonical model.
const OLDEST_OPSET: i64 = 13;

/// Options of preparation.
#[derive(Debug, Clone, Default)]
pub struct PrepareOptions {
    /// How to treat `BatchNormalization` in nets; joint models keep theirs.
    pub batchnorm: BatchNorm,
    /// Whether neurons of output layers may be shared. Always allowed for tasks of joint models that
    /// share some already.
    pub share_outputs: bool,
    /// Whether channels correspond by index.
    pub matching: Matching,
    /// Patterns of layer names. Corresponding layers with a matching name in any net keep their
    /// weights per task. Later layers are still shared, and duplicates stay shared.
    pub own_weights: Vec<String>,
    /// A pattern of layer names. Layers after the last corresponding layer with a matching name in
    /// any net are not shared.
    pub until: Option<String>,
    /// The least operator set of all nets, if another than the newest of theirs.
    pub opset: i64,
}

/// Nets in canonical form with their alignment.
#[derive(Clone)]
pub struct Prepared {
    /// The nets. Only tasks of a given joint model share neurons already.
    pub joint: JointModel,
    /// Which layers and groups correspond.
    pub alignment: Alignment,
    pub(super) seconds: Vec<(&'static str, f64)>,
}

impl Prepared {
    /// Seconds that the preparation took.
    pub fn seconds(&self) -> f64 {
        self.seconds.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Applies the options for layers with separate weights.
    fn leave(&mut self, own_weights: &[String], until: Option<&str>) -> Result<()> {
        for glob in own_weights {
            let places = self.matching(glob)?;
            self.alignment.keep_weights(&places);
        }
        let last = until.map(|glob| self.matching(glob)).transpose()?;
        let last = last.and_then(|places| places.last().copied());
        last.into_iter().for_each(|last| self.alignment.cut_behind(last));
        Ok(())
    }

    /// The places of the sites that produce the same channels as the layer called `name`.
    pub(super) fn producers_beside(&self, name: &str) -> BTreeSet<usize> {
        let correspondence = |own: TaskLayer| {
            let layer = self.joint.layer(own);
            let group = own.task.group(crate::align::only_group(&layer.outputs)?);
            Some((layer.name == name, self.alignment.correspondence(group)?))
        };
        let sites = self.alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common());
        let sites: Vec<(usize, Vec<(bool, usize)>)> = sites
            .map(|(place, site)| (place, site.members().filter_map(correspondence).collect()))
            .collect();
        let named = sites.iter().flat_map(|(_, all)| all).find(|(is_named, _)| *is_named);
        let Some((_, wanted)) = named else { return BTreeSet::new() };
        let makes = |all: &[(bool, usize)]| all.iter().any(|(_, own)| own == wanted);
        sites.iter().filter(|(_, all)| makes(all)).map(|(place, _)| *place).collect()
    }

    /// The places of sites of several nets with a layer whose name matches `glob`.
    fn matching(&self, glob: &str) -> Result<BTreeSet<usize>> {
        let usage = |message: String| Error::new(ErrorKind::Usage, message);
        let pattern = layer_pattern(glob)?;
        let name = |own: TaskLayer| self.joint.layer(own).name.clone();
        let sites = self.alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common());
        let matches = |site: &Site| site.members().map(name).any(|n| pattern.matches(&n));
        let places: BTreeSet<usize> =
            sites.filter(|(_, site)| matches(site)).map(|(place, _)| place).collect();
        if places.is_empty() {
            let names: Vec<String> =
                self.alignment.common().filter_map(|s| s.members().next().map(name)).collect();
            return Err(usage(format!("'{glob}' matches no layer that models have in common"))
                .hint(format!("they are {}", names.join(", "))));
        }
        Ok(places)
    }
}

/// Canonicalises, couples and aligns nets.
///
/// # Errors
/// As [`prepare_parts`].
pub fn prepare(inputs: Vec<Input>) -> Result<Prepared> {
    let parts = inputs.into_iter().map(|input| Part::Net(Box::new(input))).collect();
    prepare_parts(parts, PrepareOptions::default())
}

/// Canonicalises, couples and aligns nets and the task nets of joint models, in their order.
///
/// # Errors
/// As the stages it runs; [`ErrorKind::Usage`] for fewer than two tasks or equal names, and for patterns
/// that match no layer.
pub fn prepare_parts(parts: Vec<Part>, options: PrepareOptions) -> Result<Prepared> {
    let start = Instant::now();
    let (inputs, known) = tasks_of(parts);
    check_names(&inputs)?;
    let least = OLDEST_OPSET.max(options.opset);
    let opset = inputs.iter().map(|i| oldest_opset(&i.model).max(least)).max();
    let mut models: Vec<(String, Canonical)> = Vec::new();
    for (input, known) in inputs.into_iter().zip(&known) {
        // Folding it into shared weights would make them differ.
        let batchnorm = if known.is_some() { BatchNorm::PerTask } else { options.batchnorm };
        let options = CanonOptions { target_opset: opset, batchnorm };
        let mut model = canonicalise(input.model, &options).map_err(|e| e.in_model(&input.name))?;
        if known.is_none() {
            model = in_order_of(&models, model)?;
            if let Some((_, first)) = models.first() {
                model = heads_like(&first.graph, units_like(&first.graph, model)?)?;
            }
        }
        models.push((input.name, model));
    }
    let tasks = models.into_iter().zip(&known).map(|((name, model), known)| match known {
        Some(_) => Task::new(name, model),
        None => Task::fresh(name, model),
    });
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let canonicalised = start.elapsed().as_secs_f64();
    let nets = tasks.iter().zip(&known).map(|(task, known)| Net {
        graph: task.graph(),
        coupling: task.coupling(),
        shares_outputs: options.share_outputs
            || known.as_ref().is_some_and(|known| known.shares_outputs(task)),
    });
    let mut alignment = align(&nets.collect::<Vec<_>>(), options.matching);
    let seconds = vec![
        ("canonicalise", canonicalised),
        ("align", start.elapsed().as_secs_f64() - canonicalised),
    ];
    let (mut joint, sums) = restored(tasks, known)?;
    alignment.keep_weights(&left_to_tasks(&joint, &sums, &alignment));
    for site in alignment.common() {
        joint.read_alike(&site.members().collect::<Vec<_>>());
    }
    share_duplicates(&mut joint, &alignment);
    alignment.lineages.iter().for_each(|lineage| share_lineage(&mut joint, lineage));
    share_inputs(&mut joint, &alignment);
    keep_sums(&mut joint, sums)?;
    let mut prepared = Prepared { joint, alignment, seconds };
    prepared.leave(&options.own_weights, options.until.as_deref())?;
    Ok(prepared)
}

/// The model with its inputs in the order of the first net's, and its layers in the order of the first
/// earlier net that has them in another order.
fn in_order_of(earlier: &[(String, Canonical)], mut model: Canonical) -> Result<Canonical> {
    if let Some((_, first)) = earlier.first()
        && let Some(inputs) = inputs_like(&first.graph, &model.graph)
    {
        model = model.with_inputs(inputs);
    }
    for (_, other) in earlier {
        if let Some(order) = order_like(&other.graph, &model.graph)? {
            return Ok(model.in_order(&order));
        }
    }
    Ok(model)
}

/// Shares the channels of inputs that layers write to, and the common channels of inputs with different
/// numbers of channels. A net without a channel has zero weights for it (the paper's fictive inputs), which
/// need not be stored.
fn share_inputs(joint: &mut JointModel, alignment: &Alignment) {
    for groups in alignment.unlike_inputs.iter().chain(&alignment.coupled_inputs) {
        let groups: Vec<TaskGroup> = crate::align::members(groups).collect();
        let most = groups.iter().map(|own| joint.group(*own).size).max().unwrap_or(0);
        for index in 0..most {
            let have = groups.iter().filter(|own| index < joint.group(**own).size);
            let have: Vec<TaskChannel> = have.map(|group| group.channel(index)).collect();
            have.iter().skip(1).for_each(|other| joint.share(have[0], *other));
        }
    }
}

/// Shares the neurons of duplicate layers, each with its copy.
fn share_duplicates(joint: &mut JointModel, alignment: &Alignment) {
    for site in alignment.common() {
        let of = |member: TaskLayer| alignment.duplicates.get(&member);
        let Some(nets) = site.members().find_map(of) else { continue };
        let layers: Vec<TaskLayer> = site.members().filter(|m| nets.contains(&m.task)).collect();
        let channels = |own: &TaskLayer| -> Vec<TaskChannel> {
            joint.layer(*own).outputs.iter().map(|c| own.task.channel(*c)).collect()
        };
        let channels: Vec<Vec<TaskChannel>> = layers.iter().map(channels).collect();
        // Another layer of the group, or a joint model, may have shared them already.
        if channels.iter().flatten().all(|c| joint.neuron(*c).is_none()) {
            let Some((first, others)) = channels.split_first() else { continue };
            for own in others {
                for (row, same) in first.iter().zip(own) {
                    joint.share(*row, *same);
                }
            }
        }
        joint.fuse_uses(alignment, &layers);
    }
}

/// Shares the channels of a backbone by index. Tasks of one joint model keep their pairs.
fn share_lineage(joint: &mut JointModel, lineage: &Lineage) {
    for (theirs, own) in &lineage.groups {
        let (theirs, own) = (lineage.parent.group(*theirs), lineage.net.group(*own));
        let all = 0..joint.group(own).size;
        if all.clone().all(|index| joint.neuron(own.channel(index)).is_none()) {
            all.for_each(|index| joint.share(theirs.channel(index), own.channel(index)));
        }
    }
}

/// Makes sure that there are several tasks to merge.
///
/// # Errors
/// [`ErrorKind::Usage`] where there are not.
pub(crate) fn check_several(tasks: usize) -> Result<()> {
    let given = match tasks {
        0 => "no model was given",
        1 => "1 model was given",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Usage, given).hint("give two models to merge, or more"))
}

fn check_names(inputs: &[Input]) -> Result<()> {
    check_several(inputs.len())?;
    let mut names = BTreeSet::new();
    match inputs.iter().find(|input| !names.insert(input.name.as_str())) {
        Some(input) => {
            Err(Error::new(ErrorKind::Usage, format!("two tasks are called '{}'", input.name))
                .hint(Hint::from("name them with ").option("name")))
        }
        None => Ok(()),
    }
}

/// The networks of the given names among the fixtures.
#[cfg(test)]
pub(crate) fn fixtures(names: &[&str]) -> Prepared {
    prepare(names.iter().map(|name| fixture(name)).collect()).unwrap()
}

/// The network of the given name among the fixtures.
#[cfg(test)]
pub(crate) fn fixture(name: &str) -> Input {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let model = crate::onnx::load(&folder.join(format!("{name}.onnx"))).unwrap();
    Input { name: name.to_owned(), model }
}
