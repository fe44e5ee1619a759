//! What can be said of nets without data: their canonical form and what corresponds.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::align::{Alignment, Net, align};
use crate::canon::{CanonOptions, canonicalise};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::zip::joint::{JointModel, Neuron, Sharing, Task};

/// The oldest operator set of a canonical model.
const OLDEST_OPSET: i64 = 13;

/// A net to merge.
pub struct Input {
    /// Name of the task; prefix of its outputs.
    pub name: String,
    /// The net as loaded.
    pub model: Model,
}

/// What to merge: a net, or a joint model to which other nets are added.
pub enum Part {
    /// One task.
    Net(Input),
    /// Tasks that share neurons already.
    Joint(JointModel),
}

/// Nets in canonical form with their correspondence: what can be said without data.
pub struct Prepared {
    /// The nets; neurons are shared only where a joint model was given.
    pub joint: JointModel,
    /// Which layers and groups correspond.
    pub alignment: Alignment,
    pub(super) seconds: Vec<(&'static str, f64)>,
}

/// Canonicalises, couples and aligns nets.
///
/// # Errors
/// As [`prepare_parts`].
pub fn prepare(inputs: Vec<Input>) -> Result<Prepared> {
    prepare_parts(inputs.into_iter().map(Part::Net).collect())
}

/// Canonicalises, couples and aligns nets and the task nets of joint models, in their order.
///
/// # Errors
/// As the stages it runs; [`ErrorKind::Usage`] for fewer than two tasks or equal names.
pub fn prepare_parts(parts: Vec<Part>) -> Result<Prepared> {
    let start = Instant::now();
    let (inputs, sharing) = tasks_of(parts);
    check_names(&inputs)?;
    let opset = inputs.iter().map(|i| i.model.opset().max(OLDEST_OPSET)).max();
    let mut tasks = Vec::new();
    for input in inputs {
        let options = CanonOptions { target_opset: opset, ..CanonOptions::default() };
        let model = canonicalise(input.model, &options).map_err(|e| e.in_model(&input.name))?;
        tasks.push(Task::new(input.name, model.into_inner())?);
    }
    let canonicalised = start.elapsed().as_secs_f64();
    let nets: Vec<Net<'_>> =
        tasks.iter().map(|t| Net { graph: &t.model.graph, coupling: &t.coupling }).collect();
    let alignment = align(&nets);
    let seconds = vec![
        ("canonicalise", canonicalised),
        ("align", start.elapsed().as_secs_f64() - canonicalised),
    ];
    Ok(Prepared { joint: restored(tasks, sharing)?, alignment, seconds })
}

/// All tasks with the neurons they share already; `None` for a task that shares nothing.
fn tasks_of(parts: Vec<Part>) -> (Vec<Input>, Vec<Option<Vec<Vec<Option<Neuron>>>>>) {
    let (mut inputs, mut sharing) = (Vec::new(), Vec::new());
    let mut neurons = 0;
    for part in parts {
        match part {
            Part::Net(input) => {
                inputs.push(input);
                sharing.push(None);
            }
            Part::Joint(joint) => {
                let all = (0..joint.tasks.len()).flat_map(|t| joint.sharing(t).iter().flatten());
                let used = all.flatten().map(|n| n.0 + 1).max().unwrap_or(0);
                for (task, net) in joint.tasks.iter().enumerate() {
                    let moved = |n: &Option<Neuron>| n.map(|n| Neuron(n.0 + neurons));
                    let groups = joint.sharing(task).iter();
                    sharing.push(Some(groups.map(|g| g.iter().map(moved).collect()).collect()));
                    inputs.push(Input { name: net.name.clone(), model: net.model.clone() });
                }
                neurons += used;
            }
        }
    }
    (inputs, sharing)
}

fn check_names(inputs: &[Input]) -> Result<()> {
    if inputs.len() < 2 {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{} model was given", inputs.len()),
        )
        .hint("give two models to merge, or more"));
    }
    let mut names = BTreeSet::new();
    match inputs.iter().find(|input| !names.insert(input.name.as_str())) {
        Some(input) => {
            Err(Error::new(ErrorKind::Usage, format!("two tasks are called '{}'", input.name))
                .hint("name them with --name"))
        }
        None => Ok(()),
    }
}

/// The joint model of tasks whose neurons are shared as told.
fn restored(
    tasks: Vec<Task>,
    sharing: Vec<Option<Vec<Vec<Option<Neuron>>>>>,
) -> Result<JointModel> {
    if sharing.iter().all(Option::is_none) {
        return Ok(JointModel::new(tasks));
    }
    let mut all: Sharing = Vec::new();
    for (task, known) in tasks.iter().zip(sharing) {
        let sizes: Vec<usize> = task.coupling.groups.iter().map(|g| g.size).collect();
        let own = known.unwrap_or_else(|| sizes.iter().map(|n| vec![None; *n]).collect());
        if own.iter().map(Vec::len).ne(sizes) {
            return Err(changed().in_model(&task.name));
        }
        all.push(own);
    }
    JointModel::with_sharing(tasks, all).ok_or_else(changed)
}

fn changed() -> Error {
    Error::new(ErrorKind::Format, "the joint model's plan does not fit its nets")
        .hint("merge the original models again")
}
