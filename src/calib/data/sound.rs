//! Sounds of one length, decoded when they are asked for.

use std::io::Cursor;
use std::sync::Arc;

use hound::{SampleFormat, WavReader};
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;

use super::media::{AT_ONCE, Media};
use super::options::{DataOptions, SoundSteps};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::runtime::HostArray;

/// Sounds of one channel, cut or padded at their end to one length.
#[derive(Debug)]
pub(super) struct Sounds {
    media: Arc<dyn Media>,
    /// Values of each sound.
    length: usize,
    /// Values per second.
    rate: u32,
    /// The source of the rate, for messages.
    rate_of: String,
    steps: SoundSteps,
}

impl Sounds {
    /// Sounds for an input with samples of shape `wanted`. The rate is that of the preprocessing, or of
    /// the first sound.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if the input takes no sounds, if its length is open, or if the first
    /// sound cannot be read.
    pub(super) fn new(
        media: Arc<dyn Media>,
        input: &str,
        wanted: &[Option<usize>],
        options: &DataOptions,
    ) -> Result<Self> {
        let refused = |message: String| Error::new(ErrorKind::Calibration, message);
        let mut long = wanted.iter().filter(|size| **size != Some(1));
        let length = match (long.next(), long.next()) {
            (Some(Some(length)), None) => *length,
            (Some(None), None) => {
                return Err(refused(format!("input '{input}' leaves the length of sounds open"))
                    .hint(Hint::from("give it with ").option("dim")));
            }
            _ => {
                return Err(refused(format!("input '{input}' takes no sounds of one channel"))
                    .hint("models of spectrograms take these from .npz files"));
            }
        };
        let steps = options.sound;
        let (rate, rate_of) = match steps.rate {
            Some(rate) => (rate, "the preprocessing asks for".to_owned()),
            None => {
                let first = media.bytes(&[0])?;
                let first = first.first().map(Vec::as_slice).unwrap_or_default();
                let wave = WavReader::new(Cursor::new(first));
                let wave = wave.map_err(|error| undecodable(&media.name(0), error))?;
                (wave.spec().sample_rate, format!("{} has", media.name(0)))
            }
        };
        Ok(Sounds { media, length, rate, rate_of, steps })
    }

    pub(super) fn len(&self) -> usize {
        self.media.count()
    }

    /// Values of each sound.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The sounds `rows`, as floats of shape `[rows, length]`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] naming a sound that cannot be decoded, or has another rate.
    pub(super) fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let mut values = Vec::new();
        for some in rows.chunks(AT_ONCE) {
            let files = self.media.bytes(some)?;
            let decoded: Vec<Vec<f32>> = (some.par_iter().zip(&files))
                .map(|(row, file)| self.decode(file, &self.media.name(*row)))
                .collect::<Result<_>>()?;
            decoded.iter().for_each(|own| values.extend_from_slice(own));
        }
        let shape = IxDyn(&[values.len() / self.length.max(1), self.length]);
        ArrayD::from_shape_vec(shape, values).map(HostArray::from).map_err(|error| {
            Error::new(ErrorKind::Calibration, "sounds differ in length").because(error)
        })
    }

    fn decode(&self, file: &[u8], name: &str) -> Result<Vec<f32>> {
        let mut wave =
            WavReader::new(Cursor::new(file)).map_err(|error| undecodable(name, error))?;
        let spec = wave.spec();
        let refused = |message: String| Error::new(ErrorKind::Calibration, message);
        if spec.channels != 1 {
            return Err(refused(format!("{name} has {} channels, not one", spec.channels))
                .hint("mix them before, e.g. with `ffmpeg -i in.wav -ac 1 out.wav`"));
        }
        if spec.sample_rate != self.rate {
            let (own, rate, rate_of) = (spec.sample_rate, self.rate, &self.rate_of);
            let message = format!("{name} has {own} samples a second, but {rate_of} {rate}");
            return Err(refused(message).hint(format!(
                "resample it before, e.g. with `ffmpeg -i in.wav -ar {rate} out.wav`"
            )));
        }
        let values: std::result::Result<Vec<f32>, hound::Error> = match spec.sample_format {
            SampleFormat::Float => wave.samples::<f32>().take(self.length).collect(),
            SampleFormat::Int => {
                let scale = f64::from(spec.bits_per_sample.saturating_sub(1)).exp2();
                let value = |v: hound::Result<i32>| v.map(|v| (f64::from(v) / scale) as f32);
                wave.samples::<i32>().take(self.length).map(value).collect()
            }
        };
        let mut values = values.map_err(|error| undecodable(name, error))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(refused(format!("{name} has a value at {at} that is NaN or infinite")));
        }
        let own = values.len();
        values.resize(self.length, self.steps.padding);
        if self.steps.normalise {
            let counted = if self.steps.masked { own } else { self.length };
            normalise(&mut values, counted, self.steps.padding);
        }
        Ok(values)
    }
}

/// Normalises to mean 0 and variance 1 over the first `counted` values; the others are padding.
fn normalise(values: &mut [f32], counted: usize, padding: f32) {
    let (own, behind) = values.split_at_mut(counted.min(values.len()));
    let count = own.len().max(1) as f64;
    let mean = own.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = own.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
    let deviation = (variance + 1e-7).sqrt();
    own.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) / deviation) as f32);
    behind.fill(padding);
}

fn undecodable(name: &str, error: hound::Error) -> Error {
    Error::new(ErrorKind::Calibration, format!("{name} is not a whole sound")).because(error)
}
