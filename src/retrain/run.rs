//! Retraining from start to end.

use std::time::Instant;

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::emit::{InputMode, PreActivations, Trainable, inputs_agree, trainable};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::{Model, Tensor, ValueId};
use crate::mtz::joint::{JointModel, Task};
use crate::naming::counted;
use crate::progress::Progress;
use crate::runtime::HostArray;

use super::batches::split;
use super::course::{Course, Setup};
use super::examples::Examples;
use super::graph::{Built, TaskLoss, build};
use super::lesson::Lesson;
use super::options::RetrainOptions;
use super::outcome::Outcome;
use super::scores::{is_learnable, learnable};
use super::statistics::reset_statistics;
use super::teacher::{Asked, Teacher};

/// Retrains a joint model, after recomputing the statistics of its normalisations if the options ask
/// for that. Afterwards it has the best weights by validation or, without samples for validation, the
/// last ones.
///
/// # Errors
/// [`ErrorKind::Usage`] for options or data that do not fit the joint model;
/// [`ErrorKind::Unsupported`] if an operator has no gradient; [`ErrorKind::Numeric`] if a loss is not
/// finite.
pub fn retrain(
    joint: &mut JointModel,
    lesson: &Lesson<'_>,
    options: &RetrainOptions,
    progress: &dyn Progress,
) -> Result<Outcome> {
    options.validate(joint.tasks().len())?;
    check_sets(joint, lesson)?;
    let start = Instant::now();
    let normalisations = match options.reset_statistics {
        true => reset_statistics(joint, sources(joint, lesson, options), progress)?,
        false => 0,
    };
    if options.iterations == 0 {
        let seconds = start.elapsed().as_secs_f64();
        return Ok(Outcome { normalisations, seconds, ..Outcome::default() });
    }
    let inputs = match lesson.data.len() == 1 && inputs_agree(joint) {
        true => InputMode::Shared,
        false => InputMode::Separate,
    };
    let mut trainable = trainable(joint, inputs)?;
    leave_out(&mut trainable, joint)?;
    let fixed = trainable.model.graph.fixed_batch();
    let batch = fixed.unwrap_or_else(|| options.batch.min(fewest(lesson, options)));
    let mut examples = examples((joint, &trainable), lesson, options, progress)?;
    let losses = losses((joint, &trainable), &mut examples, options)?;
    let built = build(&trainable, &losses, options, batch)?;
    let setup =
        Setup { built: &built, lesson, options, batch, is_fixed: fixed.is_some(), progress };
    let mut course = Course::new(joint, examples, setup)?;
    let outcome = Outcome { normalisations, ..course.run()? };
    let best = course.best.parameters;
    let values = stored(&trainable, &built, best)?;
    trainable.store(joint, &values)?;
    Ok(outcome)
}

/// Takes off the outputs that cannot be learnt.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a task without any other output.
fn leave_out(trainable: &mut Trainable, joint: &JointModel) -> Result<()> {
    for (task, outputs) in joint.tasks().iter().zip(&mut trainable.outputs) {
        let graph = task.graph();
        let mut own = graph.outputs.iter().copied();
        outputs.retain(|_| own.next().is_none_or(|output| is_learnable(graph, output)));
        if outputs.is_empty() {
            let message = "no output holds floats, so there is nothing to learn";
            return Err(Error::new(ErrorKind::Unsupported, message).in_model(task.name()));
        }
    }
    Ok(())
}

/// The smallest number of samples that a task trains on.
fn fewest(lesson: &Lesson<'_>, options: &RetrainOptions) -> usize {
    let trained = |data: &Dataset| split(data.len(), options.validation, options.seed).0.len();
    lesson.data.iter().map(trained).min().unwrap_or(0).max(1)
}

fn check_sets(joint: &JointModel, lesson: &Lesson<'_>) -> Result<()> {
    let (sets, tasks) = (lesson.data.len(), joint.tasks().len());
    if sets == 1 || sets == tasks {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("{sets} data sets do not fit {tasks} tasks")))
}

/// The sources of each task's samples.
fn sources<'a>(
    joint: &JointModel,
    lesson: &Lesson<'a>,
    options: &RetrainOptions,
) -> Vec<Source<'a>> {
    let source = |(number, task): (usize, &Task)| Source {
        backend: lesson.backend,
        data: lesson.of_task(number),
        batch: task.model().graph.fixed_batch().unwrap_or(options.batch).max(1),
        memory: options.memory,
    };
    joint.tasks().iter().enumerate().map(source).collect()
}

fn examples<'a>(
    (joint, trainable): (&JointModel, &Trainable),
    lesson: &Lesson<'a>,
    options: &RetrainOptions,
    progress: &dyn Progress,
) -> Result<Vec<Examples<'a>>> {
    let tasks = joint.tasks().len();
    if options.loss.needs_labels() {
        let labelled = joint.tasks().iter().enumerate().map(|(t, task)| {
            Examples::labelled(
                task.name(),
                lesson.of_task(t),
                classes(task.model()).in_model(task.name())?,
            )
        });
        return labelled.collect();
    }
    if lesson.teachers.len() != tasks {
        let found = lesson.teachers.len();
        let (found, tasks) = (counted(found, "original model"), counted(tasks, "task"));
        let message = format!("{tasks} cannot learn from {found}");
        return Err(Error::new(ErrorKind::Usage, message).hint(
            Hint::from("give ")
                .option("teacher")
                .then(" once per task, in order, or learn labels: ")
                .option_as("loss", "cross-entropy"),
        ));
    }
    let mut teachers = Vec::new();
    for (number, (task, model)) in joint.tasks().iter().zip(lesson.teachers).enumerate() {
        let layers = wanted_layers(trainable, number, options);
        let layers = layers.iter().map(|l| l.layer).collect();
        let asked = Asked { task, loss: options.loss, layers };
        let batch = options.batch.max(64);
        teachers.push(Teacher::new(model, task.name(), lesson.backend, &asked, batch)?);
    }
    if options.mix {
        let live = |(t, teacher): (usize, Teacher)| {
            Examples::live(joint.tasks()[t].name(), lesson.of_task(t), teacher)
        };
        return Ok(teachers.into_iter().enumerate().map(live).collect());
    }
    let runs =
        teachers.iter().enumerate().map(|(t, teacher)| teacher.runs(lesson.of_task(t).len()));
    progress.begin("original models", runs.sum());
    let taught = teachers.into_iter().enumerate().map(|(t, teacher)| {
        let task = &joint.tasks()[t].name();
        Examples::taught(task, lesson.of_task(t), teacher, options.memory, progress).in_model(task)
    });
    taught.collect()
}

/// The layers of a task whose pre-activations count.
fn wanted_layers<'a>(
    trainable: &'a Trainable,
    task: usize,
    options: &RetrainOptions,
) -> &'a [PreActivations] {
    if options.layers > 0.0 { &trainable.layers[task] } else { &[] }
}

/// The number of classes of a classifier's only output of floats.
fn classes(model: &Model) -> Result<usize> {
    let outputs = learnable(&model.graph);
    let shape = outputs.first().and_then(|v| model.graph.value(*v).ty.as_ref()?.shape.clone());
    match (shape.as_deref(), outputs.len()) {
        (Some([_, classes]), 1) => classes.known(),
        _ => None,
    }
    .ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "labels train one output of shape batch×classes only")
            .hint(Hint::from("learn from the original models with ").option("teacher"))
    })
}

fn losses(
    (joint, trainable): (&JointModel, &Trainable),
    examples: &mut [Examples<'_>],
    options: &RetrainOptions,
) -> Result<Vec<TaskLoss>> {
    let weights = options.task_weights(joint.tasks().len());
    let mut losses = Vec::new();
    let tasks = joint.tasks().iter().zip(examples).zip(weights).enumerate();
    for (number, ((task, examples), weight)) in tasks {
        let energies = examples.energies()?;
        let layers = wanted_layers(trainable, number, options).len();
        let outputs = energies.len().saturating_sub(layers);
        let own = trainable.outputs[number].len();
        if outputs != own {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "the original model has {outputs} outputs to learn, and the joint model {own} for the \
                     task"
                ),
            )
            .in_model(task.name())
            .hint("give the models that were merged, in the order of the tasks"));
        }
        let labelled = examples.is_labelled();
        losses.push(TaskLoss { task: task.name().to_owned(), weight, labelled, energies });
    }
    Ok(losses)
}

/// All parameters with the trained ones replaced.
fn stored(trainable: &Trainable, built: &Built, best: Vec<HostArray>) -> Result<Vec<Tensor>> {
    let graph = &trainable.model.graph;
    let before = |v: ValueId| {
        graph.initializer(v).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Format, "a parameter of the joint model is no constant")
        })
    };
    let mut values: Vec<Tensor> =
        trainable.parameters.iter().map(|p| before(p.value)).collect::<Result<_>>()?;
    for (index, value) in built.trained.iter().zip(best) {
        values[*index] = Tensor::from_f32(&value.into_f32()?);
    }
    Ok(values)
}
