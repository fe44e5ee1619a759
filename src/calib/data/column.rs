//! The samples of one input: their source, and their preparation for the model.

use std::path::Path;
use std::sync::Arc;

use super::axes::{Place, dim_key, sample_shape, samples_at, samples_first};
use super::complaints::wrong_array;
use super::fit::Fit;
use super::formats::Content;
use super::look::look_through;
use super::media::{Media, is_sound};
use super::normalise::Normalise;
use super::options::DataOptions;
use super::picture::Pictures;
use super::rows::Rows;
use super::sound::Sounds;
use super::synthetic::Generator;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::DataType;
use crate::naming::counted;
use crate::runtime::{HostArray, Port, shape_text};

/// One input's samples. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) input: String,
    dtype: DataType,
    values: Values,
    fit: Fit,
    normalise: Option<Normalise>,
    /// Whether the input is a single number for all samples of a run.
    is_single: bool,
    /// The axis of the input that counts samples.
    pub(super) axis: usize,
    /// `Some` if values are checked only when they are used; the inner value is the number of rows of the
    /// table that the input indexes.
    unseen: Option<Option<usize>>,
}

#[derive(Debug, Clone)]
enum Values {
    /// All samples in the type of their file, which is often smaller than that of the input.
    Array(Arc<dyn Rows>),
    Pictures(Arc<Pictures>),
    Sounds(Arc<Sounds>),
    Synthetic(Arc<Generator>),
}

impl Column {
    /// Prepares a field of a file for an input.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if it does not fit.
    pub(super) fn new(
        file: &Path,
        name: &str,
        content: Content,
        place: Place<'_>,
        options: &DataOptions,
    ) -> Result<Self> {
        match content {
            Content::Array(array) => Self::from_array(file, name, array, place, options),
            Content::Media(media) => Self::from_media(media, place, options),
            Content::Text(_) => Err(wrong_array(file, name, "holds words, which feed no input")),
        }
    }

    /// Checks an array against its input.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if its type or shape does not fit, if it is empty, or if a value is
    /// not finite.
    fn from_array(
        file: &Path,
        name: &str,
        array: Arc<dyn Rows>,
        Place { port, axis }: Place<'_>,
        options: &DataOptions,
    ) -> Result<Self> {
        let wrong = |clause: &str| wrong_array(file, name, clause);
        let is_single = is_single(port);
        let array: Arc<dyn Rows> = match is_single {
            true => Arc::new(single(array.as_ref())?.ok_or_else(|| {
                let input = &port.name;
                wrong(&format!("has several values, but input '{input}' is one for all samples"))
            })?),
            false => array,
        };
        let wanted = sample_shape(port, axis, options)?;
        let array = match &wanted {
            Some(wanted) => samples_first(array, wanted, axis)?,
            None => array,
        };
        if let Some(clause) = unfit(array.as_ref(), port) {
            return Err(wrong(&clause));
        }
        let sample = array.shape().get(1..).unwrap_or_default();
        let fit = match &wanted {
            None => Fit::Same,
            Some(wanted) => match Fit::find(sample, wanted, options.layout) {
                Some(fit) => fit,
                None => {
                    let error = wrong(&misfit(port, array.count(), sample));
                    let remedy = remedy(Place { port, axis }, sample, options)?;
                    return Err(remedy.into_iter().fold(error, Error::hint));
                }
            },
        };
        let table = options.tables.get(&port.name).copied();
        if array.is_scanned() {
            let sound = look_through(array.as_ref(), &port.name, table, |row| row);
            sound.map_err(|fault| fault.told(wrong))?;
        }
        let fitted = fit.shape(sample).unwrap_or_default();
        let normalise = Normalise::new(options, &port.name, &fitted)?;
        let unseen = (!array.is_scanned()).then_some(table);
        let (input, values) = (port.name.clone(), Values::Array(array));
        Ok(Column { input, dtype: port.dtype, values, fit, normalise, is_single, axis, unseen })
    }

    /// Pictures or sounds for an input; the first file decides which.
    fn from_media(
        media: Arc<dyn Media>,
        Place { port, axis }: Place<'_>,
        options: &DataOptions,
    ) -> Result<Self> {
        let wanted = sample_shape(port, axis, options)?.unwrap_or_default();
        let first = media.bytes(&[0])?;
        let of_sounds = first.first().is_some_and(|bytes| is_sound(bytes));
        let stored = if of_sounds { DataType::F32 } else { DataType::U8 };
        if !is_castable(stored, port.dtype) {
            return Err(refused(port, "which no image or sound can be converted to"));
        }
        let (values, fit, sample) = if of_sounds {
            let sounds = Sounds::new(media, &port.name, &wanted, options)?;
            let sample = vec![sounds.length()];
            let fit = Fit::find(&sample, &wanted, None).unwrap_or(Fit::Same);
            (Values::Sounds(Arc::new(sounds)), fit, sample)
        } else {
            let (pictures, fit) = Pictures::new(media, &port.name, &wanted, options)?;
            let sample = pictures.sample().to_vec();
            (Values::Pictures(Arc::new(pictures)), fit, sample)
        };
        let fitted = fit.shape(&sample).unwrap_or_default();
        let normalise = Normalise::new(options, &port.name, &fitted)?;
        let (input, dtype) = (port.name.clone(), port.dtype);
        Ok(Column { input, dtype, values, fit, normalise, is_single: false, axis, unseen: None })
    }

    /// `len` random samples for input number `index`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where the input leaves a size or its rank open.
    pub(super) fn synthetic(
        Place { port, axis }: Place<'_>,
        index: usize,
        len: usize,
        seed: u64,
        options: &DataOptions,
    ) -> Result<Self> {
        let wanted = sample_shape(port, axis, options)?
            .ok_or_else(|| refused(port, "so samples for it cannot be made up"))?;
        let sizes = wanted.iter().enumerate().map(|(place, size)| {
            size.ok_or_else(|| {
                let key = dim_key(port, place + usize::from(place >= axis));
                refused(port, "whose open sizes must be known to make samples up")
                    .hint(Hint::from("pass ").option_as("dim", format!("{key}=N")))
            })
        });
        let sizes = sizes.collect::<Result<Vec<usize>>>()?;
        let rows = options.tables.get(&port.name).copied();
        let generator = Generator::new(port, index, sizes, len, seed)?.below(rows);
        Ok(Column {
            input: port.name.clone(),
            dtype: port.dtype,
            values: Values::Synthetic(Arc::new(generator)),
            fit: Fit::Same,
            normalise: None,
            is_single: is_single(port),
            axis,
            unseen: None,
        })
    }

    /// The samples `rows` as stored, if they are an array.
    pub(super) fn stored(&self, rows: &[usize]) -> Option<Result<HostArray>> {
        let rows = if self.is_single { &[0] } else { rows };
        match &self.values {
            Values::Array(array) => Some(array.rows(rows)),
            Values::Pictures(_) | Values::Sounds(_) | Values::Synthetic(_) => None,
        }
    }

    /// Number of samples; `None` if there can be any number.
    pub(super) fn len(&self) -> Option<usize> {
        match &self.values {
            _ if self.is_single => None,
            Values::Array(array) => Some(array.count()),
            Values::Pictures(pictures) => Some(pictures.len()),
            Values::Sounds(sounds) => Some(sounds.len()),
            Values::Synthetic(generator) => Some(generator.len),
        }
    }

    /// A note for the user on the preparation of samples.
    pub(super) fn note(&self) -> Option<String> {
        let Values::Sounds(sounds) = &self.values else { return None };
        let (length, input) = (sounds.length(), &self.input);
        Some(format!(
            "sounds for input '{input}' are cut or padded at their end to {length} values"
        ))
    }

    /// Whether bytes feed a float input without scaling.
    pub(super) fn feeds_raw_bytes(&self) -> bool {
        let bytes = match &self.values {
            Values::Array(array) => array.dtype() == DataType::U8,
            Values::Pictures(_) => true,
            Values::Sounds(_) | Values::Synthetic(_) => false,
        };
        bytes && self.dtype.is_float() && self.normalise.is_none()
    }

    /// Checks values that were not checked before the work began.
    fn look(&self, raw: &HostArray, rows: &[usize], table: Option<usize>) -> Result<()> {
        let name = &self.input;
        let number_of = |at: usize| rows.get(at).copied().unwrap_or(at);
        let about = |clause: &str| {
            let message = format!("the array for input '{name}' {clause}");
            Error::new(ErrorKind::Calibration, message)
        };
        look_through(raw, name, table, number_of).map_err(|fault| fault.told(about))
    }

    /// The samples `rows`, prepared for the input.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where a sample cannot be read or does not fit the input's type.
    pub(super) fn batch(&self, rows: &[usize]) -> Result<HostArray> {
        let spoilt = |error: Error| {
            Error::new(
                ErrorKind::Calibration,
                format!("samples for input '{}' cannot be converted", self.input),
            )
            .because(error)
        };
        let rows = if self.is_single { &[0] } else { rows };
        let raw = match &self.values {
            Values::Array(array) => array.rows(rows).map_err(spoilt)?,
            Values::Pictures(pictures) => pictures.rows(rows)?,
            Values::Sounds(sounds) => sounds.rows(rows)?,
            Values::Synthetic(generator) => generator.rows(rows)?,
        };
        if let Some(table) = self.unseen {
            self.look(&raw, rows, table)?;
        }
        let fitted = self.fit.apply(raw).ok_or_else(|| {
            Error::new(ErrorKind::Calibration, format!("samples for '{}' differ", self.input))
        })?;
        let typed = fitted.cast(self.dtype).map_err(spoilt)?;
        let ready = match &self.normalise {
            Some(normalise) => normalise.apply(typed),
            None => typed,
        };
        match self.is_single {
            true => ready.reshaped(&[]).ok_or_else(|| {
                Error::new(ErrorKind::Calibration, format!("'{}' is no single value", self.input))
            }),
            false => samples_at(ready, self.axis).ok_or_else(|| {
                let message = format!("samples for '{}' have too few axes", self.input);
                Error::new(ErrorKind::Calibration, message)
            }),
        }
    }
}

/// The clause about an array that holds no samples of an input, whatever shape these have.
fn unfit(array: &dyn Rows, port: &Port) -> Option<String> {
    if array.shape().is_empty() {
        return Some("is a single number where samples are needed".to_owned());
    }
    if array.shape().contains(&0) {
        return Some(format!("is empty: its shape is {}", shape_text(array.shape())));
    }
    let (found, input) = (array.dtype(), &port.name);
    let is_typed = is_castable(found, port.dtype);
    (!is_typed).then(|| format!("is {found:?}, but input '{input}' is {:?}", port.dtype))
}

/// The clause about an array whose samples' shape fits an input in no way.
fn misfit(port: &Port, samples: usize, sample: &[usize]) -> String {
    let (found, input, wanted) = (shape_text(sample), &port.name, port.shape_text());
    let samples = counted(samples, "sample");
    format!("has {samples} of shape {found}, but input '{input}' is {wanted}")
}

/// The option that can make samples fit an input, if there is one.
fn remedy(
    Place { port, axis }: Place<'_>,
    sample: &[usize],
    options: &DataOptions,
) -> Result<Option<Hint>> {
    let Some(wanted) = sample_shape(port, axis, options)? else { return Ok(None) };
    if Fit::find(sample, &wanted, None).is_some() {
        return Ok(Some(Hint::from("change or leave out ").option("layout")));
    }
    let sizes = sample_shape(port, axis, &DataOptions::default())?.unwrap_or_default();
    let product = |all: usize, size: &usize| all.saturating_mul(*size);
    let known = sizes.iter().flatten().fold(1, product).max(1);
    let count = sample.iter().fold(1, product);
    let is_flat = sample.iter().filter(|size| **size != 1).count() == 1;
    let may_be_cut = is_flat && count % known == 0;
    let fits_others = may_be_cut || Fit::find(sample, &sizes, options.layout).is_some();
    let is_open = sizes.contains(&None);
    Ok((is_open && fits_others)
        .then(|| Hint::from("give the sizes that the input leaves open with ").option("dim")))
}

/// Checks that inputs are of types that samples can have.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an input of strings.
pub(crate) fn check_fed(ports: &[Port]) -> Result<()> {
    match ports.iter().find(|port| port.dtype == DataType::STRING) {
        Some(port) => {
            let message = format!("input '{}' takes strings, which cannot be fed", port.name);
            Err(Error::new(ErrorKind::Unsupported, message)
                .hint("cut off the nodes that read strings, and keep the part behind them"))
        }
        None => Ok(()),
    }
}

/// Whether an input takes one number per run, for any number of samples.
fn is_single(port: &Port) -> bool {
    port.shape.as_ref().is_some_and(Vec::is_empty)
}

/// The only value of an array, which may be repeated per sample, as one row.
fn single(array: &dyn Rows) -> Result<Option<HostArray>> {
    let all = array.whole()?;
    let len = all.len();
    let Some(rows) = all.reshaped(&[len]) else { return Ok(None) };
    let first = rows.slice_rows(0..len.min(1))?;
    let repeated = HostArray::stack(&vec![first.clone(); len])?;
    Ok((repeated == rows).then_some(first))
}

fn is_castable(from: DataType, to: DataType) -> bool {
    match to {
        DataType::F32 | DataType::F64 | DataType::F16 => true,
        DataType::BF16 | DataType::Other(_) => false,
        _ => !from.is_float(),
    }
}

fn refused(port: &Port, clause: &str) -> Error {
    Error::new(
        ErrorKind::Calibration,
        format!("input '{}' is {:?} {}, {clause}", port.name, port.dtype, port.shape_text()),
    )
}
