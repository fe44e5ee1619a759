//! Statistics of a table: counts of picked rows.

use ndarray::Array1;

use super::stream::Stream;
use crate::couple::CoupledLayer;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::progress::Progress;

/// Counts how often the net of `stream` picks each of `rows` rows.
///
/// # Errors
/// [`ErrorKind::Backend`] if the runtime fails, [`ErrorKind::Calibration`] if an index is outside the
/// table.
pub(super) fn collect(
    layer: &CoupledLayer,
    rows: usize,
    model: &Model,
    stream: &mut Stream<'_>,
    progress: &dyn Progress,
) -> Result<Array1<f64>> {
    let at = stream.position_of(layer.layer.node);
    let mut step = stream.prepare(model, at, &[layer.layer.input])?;
    let mut counts = Array1::zeros(rows);
    for batch in 0..stream.source().batches() {
        progress.check()?;
        for picked in stream.run(model, &mut step, batch)? {
            let numbers = picked.as_ref().clone().integers().ok_or_else(|| {
                Error::new(ErrorKind::Backend, "the numbers of a table's rows are no integers")
            })?;
            let mask = stream.mask(batch)?.filter(|mask| mask.is_over(numbers.shape()));
            let counts_at = |token: usize| mask.as_ref().is_none_or(|mask| mask.counts(token));
            let all = numbers.iter().enumerate();
            add(&mut counts, all.filter(|(token, _)| counts_at(*token)).map(|(_, n)| *n))?;
        }
        progress.step();
    }
    stream.finish(step);
    Ok(counts)
}

/// Counts indices; negative ones count from the end of the table.
fn add(counts: &mut Array1<f64>, numbers: impl Iterator<Item = i64>) -> Result<()> {
    let rows = counts.len();
    for number in numbers {
        let row = if number < 0 { number + rows as i64 } else { number };
        let count = usize::try_from(row).ok().and_then(|row| counts.get_mut(row));
        *count.ok_or_else(|| {
            let message = format!("index {number} is outside a table of {rows} rows");
            Error::new(ErrorKind::Calibration, message)
                .hint("give ids of the model's own vocabulary")
        })? += 1.0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_from_either_end_and_others_refused() {
        let mut counts = Array1::zeros(3);
        add(&mut counts, [0, 2, -1, -3].into_iter()).unwrap();
        assert_eq!(counts.to_vec(), [2.0, 0.0, 2.0]);
        for number in [3, -4, i64::MIN] {
            let error = add(&mut counts, [number].into_iter()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Calibration);
            assert!(error.to_string().contains("3 rows"), "{error}");
        }
    }
}
