//! Scaling and per-channel normalisation of float samples.

use ndarray::{ArrayD, Axis};

use super::options::DataOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::HostArray;

/// `(x · scale − mean) / std`, as one product and one sum per element.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Normalise {
    /// Factor and offset, one pair for all elements or one per channel.
    steps: Vec<(f64, f64)>,
    /// The channel axis of the batch, where there are several channels.
    axis: Option<usize>,
}

impl Normalise {
    /// The normalisation that `options` asks for; `None` where it asks for none.
    ///
    /// Channels are the first axis of the sample that has as many entries as there are values, the
    /// last one where the first has not.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where the values are neither one nor one per channel.
    pub(super) fn new(
        options: &DataOptions,
        input: &str,
        sample: &[usize],
    ) -> Result<Option<Self>> {
        if !options.normalises() {
            return Ok(None);
        }
        let channels = options.mean.len().max(options.std.len()).max(1);
        for (what, values) in [("mean", &options.mean), ("std", &options.std)] {
            if !matches!(values.len(), 0 | 1) && values.len() != channels {
                return Err(counts_differ(options));
            }
            if channels > 1 && values.len() == channels && channel_axis(sample, channels).is_none()
            {
                return Err(Error::new(
                    ErrorKind::Calibration,
                    format!(
                        "{what} has {channels} values, but input '{input}' has no axis of them"
                    ),
                )
                .hint("give one value, or one per channel"));
            }
        }
        let scale = options.scale.map_or(1.0, |scale| f64::from(scale.0));
        let value = |values: &[f32], channel: usize, default: f64| {
            let value = values.get(channel).or(values.first());
            value.map_or(default, |value| f64::from(*value))
        };
        let steps = (0..channels).map(|channel| {
            let mean = value(&options.mean, channel, 0.0);
            let std = value(&options.std, channel, 1.0);
            (scale / std, -mean / std)
        });
        let axis = if channels > 1 { channel_axis(sample, channels).map(|a| a + 1) } else { None };
        Ok(Some(Normalise { steps: steps.collect(), axis }))
    }

    /// Normalises a batch of floats; other types are left alone.
    pub(super) fn apply(&self, batch: HostArray) -> HostArray {
        match batch {
            HostArray::F32(mut array) => {
                self.each_channel(&mut array, |v, (factor, offset)| {
                    *v = (f64::from(*v) * factor + offset) as f32;
                });
                array.into()
            }
            HostArray::F64(mut array) => {
                self.each_channel(&mut array, |v, (factor, offset)| *v = *v * factor + offset);
                array.into()
            }
            HostArray::F16(mut array) => {
                self.each_channel(&mut array, |v, (factor, offset)| {
                    *v = half::f16::from_f64(v.to_f64() * factor + offset);
                });
                array.into()
            }
            other => other,
        }
    }

    fn each_channel<T>(&self, array: &mut ArrayD<T>, step: impl Fn(&mut T, (f64, f64))) {
        match (self.axis, self.steps.first()) {
            (Some(axis), _) if axis < array.ndim() => {
                for (mut channel, pair) in array.axis_iter_mut(Axis(axis)).zip(&self.steps) {
                    channel.iter_mut().for_each(|v| step(v, *pair));
                }
            }
            (_, Some(pair)) => array.iter_mut().for_each(|v| step(v, *pair)),
            (_, None) => {}
        }
    }
}

fn channel_axis(sample: &[usize], channels: usize) -> Option<usize> {
    let last = sample.len().checked_sub(1)?;
    [0, last].into_iter().find(|axis| sample.get(*axis) == Some(&channels))
}

fn counts_differ(options: &DataOptions) -> Error {
    Error::new(
        ErrorKind::Calibration,
        format!("mean has {} values and std has {}", options.mean.len(), options.std.len()),
    )
    .hint("give one value, or one per channel")
}

#[cfg(test)]
mod tests {
    use super::super::options::Scale;
    use super::*;
    use ndarray::{IxDyn, array};

    fn options(scale: Option<f32>, mean: &[f32], std: &[f32]) -> DataOptions {
        DataOptions {
            scale: scale.map(Scale),
            mean: mean.to_vec(),
            std: std.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn channels_first_and_last_are_told_apart() {
        let batch = || HostArray::from(ArrayD::from_elem(IxDyn(&[1, 2, 1]), 4.0f32));
        let options = options(Some(0.5), &[1.0, 2.0], &[0.5]);
        let first = Normalise::new(&options, "x", &[2, 1]).unwrap().unwrap();
        assert_eq!(first.apply(batch()), array![[[2.0f32], [0.0]]].into_dyn().into());
        let last = Normalise::new(&options, "x", &[1, 2]).unwrap().unwrap();
        let turned = HostArray::from(ArrayD::from_elem(IxDyn(&[1, 1, 2]), 4.0f32));
        assert_eq!(last.apply(turned), array![[[2.0f32, 0.0]]].into_dyn().into());
    }

    #[test]
    fn one_value_serves_all_and_nothing_means_nothing() {
        let options_one = options(Some(1.0 / 255.0), &[], &[]);
        let one = Normalise::new(&options_one, "x", &[2]).unwrap().unwrap();
        let batch = HostArray::from(array![[255.0f32, 0.0]].into_dyn());
        assert_eq!(one.apply(batch), array![[1.0f32, 0.0]].into_dyn().into());
        assert_eq!(Normalise::new(&options(None, &[], &[]), "x", &[]).unwrap(), None);
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let sample = [1, 28, 28];
        for bad in [options(None, &[0.1, 0.2, 0.3], &[]), options(None, &[0.1; 3], &[0.2; 2])] {
            let error = Normalise::new(&bad, "x", &sample).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Calibration);
        }
    }
}
