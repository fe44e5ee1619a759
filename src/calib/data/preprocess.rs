//! Hugging Face's `preprocessor_config.json`: the steps of preparing a model's pictures or sounds.
//!
//! Unknown keys that could change values are refused: a model with other preprocessing than in training
//! loses accuracy without any error.

use std::path::Path;

use serde_json::{Map, Value};

use super::options::{DataOptions, MAX_SIDE, PictureSteps, Resize, Scale, Sizing, SoundSteps};
use super::resample::Filter;
use crate::error::{Error, ErrorKind, Result};

/// Limit of the file's bytes.
const LONGEST: u64 = 1 << 20;

/// Keys that change no values of pictures or sounds.
const HARMLESS: &[&str] = &[
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_valid_processor_keys",
    "model_input_names",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "num_labels",
    "id2label",
    "label2id",
];

/// Kinds of processors for which a plain number is the shorter side.
const SHORTER: &[&str] = &[
    "CLIP",
    "ChineseCLIP",
    "ConvNext",
    "Levit",
    "MobileNetV1",
    "MobileNetV2",
    "MobileViT",
    "PoolFormer",
    "Bit",
];

/// Kinds of processors for which a plain number is both sides.
const SQUARE: &[&str] = &["ViT", "DeiT", "Beit", "Siglip", "Blip", "EfficientNet", "Segformer"];

/// ConvNeXt's default of the fraction that a crop keeps.
const CROPPED: f64 = 224.0 / 256.0;

impl DataOptions {
    /// Takes steps from Hugging Face's `preprocessor_config.json`, except those that these options
    /// already define.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Usage`] if it has unknown steps.
    pub fn preprocess(&mut self, file: &Path) -> Result<()> {
        apply(file, self)
    }
}

/// Reads a file, and adds its steps to the options, except those that are already defined.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be read; [`ErrorKind::Usage`] if it has unknown steps.
fn apply(path: &Path, options: &mut DataOptions) -> Result<()> {
    let refused =
        |clause: String| Error::new(ErrorKind::Usage, format!("{} {clause}", path.display()));
    let length = std::fs::metadata(path).map_err(|e| super::complaints::unreadable(path, e))?.len();
    if length > LONGEST {
        return Err(refused(format!("has {length} bytes, more than any preprocessing")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| super::complaints::unreadable(path, e))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| refused("is not JSON".to_owned()).because(error))?;
    // Newer files hold the parts of a processor as separate objects.
    let part = ["image_processor", "feature_extractor"]
        .iter()
        .find_map(|key| value.get(key).filter(|part| part.is_object()));
    let object = part.unwrap_or(&value).as_object();
    let object = object.ok_or_else(|| refused("is no object of keys".to_owned()))?;
    steps(object, options).map_err(|clause| {
        refused(clause).hint("prepare the samples yourself, and give them as arrays")
    })
}

/// Adds the steps of an object. The error is a clause about the file.
fn steps(object: &Map<String, Value>, options: &mut DataOptions) -> Result<(), String> {
    let keys = Keys { object };
    if object.contains_key("sampling_rate") {
        options.sound = sound(&keys)?;
    } else {
        picture(&keys, options)?;
    }
    Ok(())
}

/// Typed access to the keys of an object.
struct Keys<'a> {
    object: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| wrong(key, value));
        self.get(key).map(flag).transpose()
    }

    /// Whether a step is on; the file must define it.
    fn step(&self, key: &str) -> Result<bool, String> {
        self.flag(key)?.ok_or_else(|| format!("does not say `{key}`: write true or false"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let number = |value: &Value| value.as_f64().ok_or_else(|| wrong(key, value));
        self.get(key).map(number).transpose()
    }

    fn numbers(&self, key: &str) -> Result<Vec<f32>, String> {
        let one = |value: &Value| value.as_f64().map(|v| v as f32);
        match self.get(key) {
            None => Err(format!("asks to normalise and has no `{key}`")),
            Some(Value::Array(all)) => {
                let all: Option<Vec<f32>> = all.iter().map(one).collect();
                all.ok_or_else(|| format!("has a `{key}` that is no list of numbers"))
            }
            Some(value) => one(value).map(|v| vec![v]).ok_or_else(|| wrong(key, value)),
        }
    }

    /// The kind of processor, e.g. `ViT`.
    fn kind(&self) -> Option<&'a str> {
        let name = self.get("image_processor_type").or(self.get("feature_extractor_type"))?;
        let name = name.as_str()?;
        let name = name.strip_suffix("Fast").unwrap_or(name);
        let ends = ["ImageProcessor", "FeatureExtractor"];
        Some(ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
    }

    /// Refuses keys that are neither `known` nor harmless nor switched off.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        let off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        let strange = self.object.iter().find(|(key, value)| {
            !known.contains(&key.as_str()) && !HARMLESS.contains(&key.as_str()) && !off(value)
        });
        match strange {
            None => Ok(()),
            Some((key, value)) => Err(format!("has `{key}` = {value}, which is not understood")),
        }
    }
}

fn wrong(key: &str, value: &Value) -> String {
    format!("has `{key}` = {value}, which is not understood")
}

fn sound(keys: &Keys<'_>) -> Result<SoundSteps, String> {
    const KNOWN: &[&str] = &[
        "sampling_rate",
        "do_normalize",
        "padding_value",
        "feature_size",
        "padding_side",
        "return_attention_mask",
    ];
    if keys.kind().is_some_and(|kind| kind != "Wav2Vec2") {
        let kind = keys.kind().unwrap_or_default();
        return Err(format!("is of {kind}, which computes features that are not computed here"));
    }
    keys.only(KNOWN)?;
    if keys.number("feature_size")?.is_some_and(|size| size != 1.0) {
        return Err("asks for features of sounds, which are not computed here".to_owned());
    }
    if let Some(side) = keys.get("padding_side").filter(|side| side.as_str() != Some("right")) {
        return Err(wrong("padding_side", side));
    }
    let rate = keys.number("sampling_rate")?.filter(|rate| (1.0..1e7).contains(rate));
    let rate = rate.ok_or("has no valid `sampling_rate`")? as u32;
    let padding = keys.number("padding_value")?.unwrap_or(0.0) as f32;
    let normalise = keys.step("do_normalize")?;
    let masked = keys.flag("return_attention_mask")?.unwrap_or(false);
    Ok(SoundSteps { rate: Some(rate), normalise, masked, padding })
}

/// Adds the steps on pictures.
fn picture(keys: &Keys<'_>, options: &mut DataOptions) -> Result<(), String> {
    const KNOWN: &[&str] = &[
        "do_resize",
        "size",
        "resample",
        "crop_pct",
        "do_center_crop",
        "crop_size",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "do_flip_channel_order",
    ];
    keys.only(KNOWN)?;
    let mut steps = PictureSteps {
        sizing: Sizing::Same,
        filter: Filter::Bilinear,
        crop: None,
        swap: keys.flag("do_flip_channel_order")?.unwrap_or(false),
    };
    if keys.step("do_resize")? {
        (steps.sizing, steps.crop) = sizing(keys)?;
        steps.filter = filter(keys)?;
    }
    if keys.flag("do_center_crop")?.unwrap_or(false) {
        let size = keys.get("crop_size").ok_or("asks to crop and has no `crop_size`")?;
        steps.crop = Some(match Sizes::of("crop_size", size)? {
            Sizes::Plain(side) => Resize { width: side, height: side },
            Sizes::Both(size) => size,
            Sizes::Shortest(_) => return Err(wrong("crop_size", size)),
        });
    }
    options.picture = Some(steps);
    values(keys, options)
}

/// Adds the steps on the values of pictures.
fn values(keys: &Keys<'_>, options: &mut DataOptions) -> Result<(), String> {
    // Older files omit this key, and all kinds of processors rescale.
    if keys.flag("do_rescale")?.unwrap_or(true) && options.scale.is_none() {
        let factor = keys.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
        options.scale = Some(Scale(factor as f32));
    }
    if keys.step("do_normalize")? {
        if options.mean.is_empty() {
            options.mean = keys.numbers("image_mean")?;
        }
        if options.std.is_empty() {
            options.std = keys.numbers("image_std")?;
        }
    }
    Ok(())
}

fn filter(keys: &Keys<'_>) -> Result<Filter, String> {
    let number = keys.number("resample")?.ok_or("asks to resize and has no `resample`")?;
    let found = Filter::ALL.iter().zip(0..).find(|(_, own)| f64::from(*own) == number);
    found
        .map(|(filter, _)| *filter)
        .ok_or_else(|| format!("has `resample` = {number}, which is no known filter"))
}

/// The sizing of pictures, and the crop that belongs to it, if any.
fn sizing(keys: &Keys<'_>) -> Result<(Sizing, Option<Resize>), String> {
    let size = keys.get("size").ok_or("asks to resize and has no `size`")?;
    let kind = keys.kind().unwrap_or_default();
    let sizes = Sizes::of("size", size)?;
    let shorter = match sizes {
        Sizes::Both(size) => return Ok((Sizing::Exact(size), None)),
        Sizes::Shortest(side) => side,
        Sizes::Plain(side) if SHORTER.contains(&kind) => side,
        Sizes::Plain(side) if SQUARE.contains(&kind) => {
            return Ok((Sizing::Exact(Resize { width: side, height: side }), None));
        }
        Sizes::Plain(side) => {
            return Err(format!(
                "has `size` = {side} for an unknown kind of processor: write \
                 {{\"height\": {side}, \"width\": {side}}} or {{\"shortest_edge\": {side}}}"
            ));
        }
    };
    if kind != "ConvNext" {
        return match keys.get("crop_pct") {
            Some(value) => Err(wrong("crop_pct", value)),
            None => Ok((Sizing::Shortest(shorter), None)),
        };
    }
    let square = Resize { width: shorter, height: shorter };
    if shorter >= 384 {
        return Ok((Sizing::Exact(square), None));
    }
    let part = keys.number("crop_pct")?.unwrap_or(CROPPED);
    let side = (f64::from(shorter) / part) as u32;
    match (1..=MAX_SIDE).contains(&side) && side >= shorter {
        true => Ok((Sizing::Shortest(side), Some(square))),
        false => Err(format!("has `crop_pct` = {part}, which is out of range")),
    }
}

/// A size in the file.
enum Sizes {
    Plain(u32),
    Both(Resize),
    Shortest(u32),
}

impl Sizes {
    fn of(key: &str, value: &Value) -> Result<Self, String> {
        let side = |value: &Value| {
            let side = value.as_u64().and_then(|side| u32::try_from(side).ok());
            side.filter(|side| (1..=MAX_SIDE).contains(side)).ok_or_else(|| wrong(key, value))
        };
        let Some(object) = value.as_object() else { return side(value).map(Sizes::Plain) };
        let names: Vec<&str> = object
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name.as_str())
            .collect();
        let get = |name: &str| object.get(name).map_or_else(|| Err(wrong(key, value)), side);
        match names.as_slice() {
            ["shortest_edge"] => get("shortest_edge").map(Sizes::Shortest),
            ["height", "width"] | ["width", "height"] => {
                Ok(Sizes::Both(Resize { width: get("width")?, height: get("height")? }))
            }
            _ => Err(wrong(key, value)),
        }
    }
}

#[cfg(test)]
mod tests;
