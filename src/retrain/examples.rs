//! Samples with their targets.

use crate::calib::data::Dataset;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::progress::Progress;
use crate::runtime::HostArray;

use super::energy::Spread;
use super::mix::mixed;
use super::teacher::{Teacher, one_hot};

/// Number of samples, at least one batch, from which the energy of targets is estimated, if targets are not all known.
const ENERGY_SAMPLES: usize = 512;

/// The source of targets.
enum Targets {
    /// The original net's scores of all samples.
    Cached(Vec<HostArray>),
    /// The original net, run on every batch.
    Live(Teacher),
    /// Labels, with the number of classes.
    Labels(usize),
}

/// A task's samples and targets.
pub(super) struct Examples<'a> {
    task: String,
    data: &'a Dataset,
    targets: Targets,
}

/// One batch of a task.
pub(super) struct Fed {
    pub(super) inputs: Vec<(String, HostArray)>,
    pub(super) targets: Vec<HostArray>,
    pub(super) labels: Option<Vec<i64>>,
}

impl<'a> Examples<'a> {
    /// Samples with the scores of their original net.
    pub(super) fn taught(
        task: &str,
        data: &'a Dataset,
        mut teacher: Teacher,
        memory: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let targets = match teacher.run_all(data, memory, progress)? {
            Some(all) => Targets::Cached(all),
            None => Targets::Live(teacher),
        };
        Ok(Examples { task: task.to_owned(), data, targets })
    }

    /// Samples whose original net runs on every batch, so that they may be mixed.
    pub(super) fn live(task: &str, data: &'a Dataset, teacher: Teacher) -> Self {
        Examples { task: task.to_owned(), data, targets: Targets::Live(teacher) }
    }

    /// Samples with labels of `classes` classes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where there are no labels.
    pub(super) fn labelled(task: &str, data: &'a Dataset, classes: usize) -> Result<Self> {
        if !data.has_labels() {
            let why = data.unusable_labels().map(|why| format!(": {why}")).unwrap_or_default();
            let message = format!("the samples have no labels to learn{why}");
            return Err(Error::new(ErrorKind::Usage, message).in_model(task).hint(
                Hint::from("add an array 'labels', or learn from the original models with ")
                    .option("teacher"),
            ));
        }
        Ok(Examples { task: task.to_owned(), data, targets: Targets::Labels(classes) })
    }

    /// Whether samples have labels.
    pub(super) fn is_labelled(&self) -> bool {
        self.data.has_labels()
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// The mean energy of a sample's targets, for each output.
    pub(super) fn energies(&mut self) -> Result<Vec<f32>> {
        let mut spreads: Vec<Spread> = Vec::new();
        let mut add = |targets: &[HostArray], axes: &[usize]| {
            spreads.resize_with(targets.len(), Spread::default);
            let axes = axes.iter().copied().chain(std::iter::repeat(0));
            let mut targets = spreads.iter_mut().zip(targets).zip(axes);
            targets.try_for_each(|((spread, targets), axis)| spread.add(targets, axis))
        };
        match &self.targets {
            Targets::Cached(targets) => add(targets, &[])?,
            Targets::Labels(_) => return Ok(vec![1.0]),
            Targets::Live(teacher) => {
                let axes = teacher.axes().to_vec();
                for rows in teacher.pieces(self.data.len(), ENERGY_SAMPLES)? {
                    let rows: Vec<usize> = rows.collect();
                    add(&self.feed(&rows, None)?.targets, &axes)?;
                }
            }
        }
        Ok(spreads.iter().map(Spread::energy).collect())
    }

    /// The samples `rows`, or with `parts` as many mixtures of them.
    pub(super) fn feed(&mut self, rows: &[usize], parts: Option<&[f32]>) -> Result<Fed> {
        let chosen = self.data.select(rows).in_model(&self.task)?;
        let mut inputs = chosen.batch(0..rows.len()).in_model(&self.task)?;
        if let Some(parts) = parts {
            for ((_, input), axis) in inputs.iter_mut().zip(chosen.sample_axes()) {
                *input = mixed(input, axis, parts).in_model(&self.task)?;
            }
        }
        let labels = chosen.labels(0..rows.len());
        let targets = match &mut self.targets {
            Targets::Cached(all) => {
                all.iter().map(|t| t.select_rows(rows)).collect::<Result<_>>()?
            }
            Targets::Live(teacher) => teacher.run(&inputs)?,
            Targets::Labels(classes) => {
                let labels = labels.as_deref().unwrap_or_default();
                let targets = one_hot(labels, *classes).in_model(&self.task)?;
                vec![match parts {
                    Some(parts) => mixed(&targets, 0, parts)?,
                    None => targets,
                }]
            }
        };
        Ok(Fed { inputs, targets, labels })
    }
}
