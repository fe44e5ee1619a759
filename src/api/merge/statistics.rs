//! Stored statistics in place of samples.

use std::path::PathBuf;

use super::Merger;
use crate::api::models::Loaded;
use crate::calib::net::NetStatistics;
use crate::calib::store::{self, Meta};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::mtz::joint::Task;
use crate::mtz::statistics::StoredNet;
use crate::naming::counted;
use crate::progress::Progress;
use crate::report::StatisticsRecord;

/// Statistics of each task's original net, as they are stored; empty without any.
pub(super) struct StoredFiles {
    files: Vec<(NetStatistics, Meta)>,
}

impl StoredFiles {
    /// Whether all of them come from the same samples.
    pub(super) fn are_common(&self) -> bool {
        let mut origins = self.files.iter().map(|(_, meta)| (&meta.fingerprints, meta.samples));
        let first = origins.next().filter(|(fingerprints, _)| !fingerprints.is_empty());
        first.is_some_and(|first| origins.all(|other| other == first))
    }

    /// The statistics of the nets' layers. Warns where they are incomplete.
    ///
    /// # Errors
    /// As [`StoredNet::of`].
    pub(super) fn of_nets(self, nets: &[Task], progress: &dyn Progress) -> Result<Vec<StoredNet>> {
        let of_net = |((file, _), net): ((NetStatistics, Meta), &Task)| {
            let stored = StoredNet::of(net, file).in_model(net.name())?;
            let missing = stored.missing(net);
            if let Some((first, others)) = missing.split_first() {
                let and = if others.is_empty() { "" } else { " and others" };
                let (name, count) = (net.name(), missing.len());
                progress.warn(&format!(
                    "the statistics of {name} hold nothing about {count} of its layers ({first}{and}): \
                     samples take their place, which are random numbers unless some are given; calibrate \
                     the model again"
                ));
            }
            Ok(stored)
        };
        self.files.into_iter().zip(nets).map(of_net).collect()
    }
}

impl Merger {
    /// Reads statistics from earlier calibrations, one file per model in their order.
    ///
    /// # Errors
    /// As [`store::load`]; [`ErrorKind::Calibration`] for those of other models.
    pub(super) fn stored(&self, loaded: &[Loaded]) -> Result<StoredFiles> {
        let gram = &self.options.calibration.gram;
        if !gram.is_empty() && gram.len() != loaded.len() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "statistics were given {} for {}",
                    counted(gram.len(), "time"),
                    counted(loaded.len(), "model")
                ),
            )
            .hint(Hint::from("give ").option("gram").then(" once per model, in their order")));
        }
        let files = gram.iter().zip(loaded).map(|(path, model)| {
            let (statistics, meta) = store::load(path)?;
            self.check_origin(&meta, model).map_err(|e| e.in_model(path.display()))?;
            Ok((statistics, meta))
        });
        Ok(StoredFiles { files: files.collect::<Result<_>>()? })
    }

    /// Checks that statistics are those of a model as it is read now.
    fn check_origin(&self, meta: &Meta, model: &Loaded) -> Result<()> {
        let other = |message: String| Error::new(ErrorKind::Calibration, message);
        if meta.model_sha256 != model.sha256 {
            let message = format!("the statistics are not those of {}", model.path.display());
            return Err(other(message).hint("calibrate the model again"));
        }
        let wanted = self.options.models.batchnorm.name();
        match &meta.batchnorm {
            Some(found) if found != wanted => {
                let message = format!("the statistics were taken with batchnorm {found}");
                let hint = Hint::from("calibrate the model again with ");
                Err(other(message).hint(hint.option_as("batchnorm", wanted)))
            }
            _ => Ok(()),
        }
    }

    /// The records of stored statistics, one per task.
    pub(super) fn records_of(&self, files: &StoredFiles) -> Vec<StatisticsRecord> {
        let paths = &self.options.calibration.gram;
        let record =
            |(path, (statistics, meta)): (&PathBuf, &(NetStatistics, Meta))| StatisticsRecord {
                path: path.display().to_string(),
                samples: meta.samples,
                sources: meta.sources.clone(),
                sensitivities: !statistics.sensitivities.is_empty(),
            };
        paths.iter().zip(&files.files).map(record).collect()
    }

    /// Whether statistics come from files.
    pub(in crate::api) fn is_stored(&self) -> bool {
        !self.options.calibration.gram.is_empty()
    }
}
