//! The answers of a net to all samples of a task.

use crate::calib::stream::Source;
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::runtime::{Backend, ModelSource, feeds};

use super::answers::{Reading, misclassified};

/// The part of answers that differ. Further wanted ones, of samples that fill no batch, do not count.
pub(crate) fn differing(found: &[i64], wanted: &[i64]) -> f64 {
    misclassified(found, wanted) as f64 / found.len().max(1) as f64
}

/// The answer for each sample, except for the last ones if they do not fill a batch of the net's fixed size;
/// `None` if the net's first output holds none.
///
/// # Errors
/// As [`Dataset::runs`](crate::calib::data::Dataset::runs), [`Backend::load`] and
/// [`crate::runtime::Session::run`].
pub(crate) fn answers(net: &Model, source: &Source<'_>) -> Result<Option<Vec<i64>>> {
    let backend: &dyn Backend = source.backend;
    let mut session = backend.load(ModelSource::Graph(net)).in_model(&net.name)?;
    let reading = Reading::of(&net.graph);
    let mut all = Vec::new();
    let ranges = source.data.runs(net.graph.fixed_batch(), source.batch).in_model(&net.name)?;
    for range in ranges {
        let samples = range.len();
        let outputs = session.run(&feeds(&source.data.batch(range)?)).in_model(&net.name)?;
        let first = outputs.first();
        let Some(answers) = first.and_then(|output| reading.of_samples(output, samples)) else {
            return Ok(None);
        };
        all.extend(answers);
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_answers_beyond_those_found_do_not_count() {
        assert_eq!(differing(&[1, 2], &[1, 3, 9]), 0.5);
        assert_eq!(differing(&[], &[1]), 0.0);
    }
}
