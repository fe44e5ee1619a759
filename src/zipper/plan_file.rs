//! A plan: a file that records a merge, for reading, editing and repeating it.
//!
//! The format is TOML. Options have their names of the command line, so every option can be recorded;
//! this file does not know their meaning.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, ErrorKind, Hint, Result};

/// Version of the format.
const VERSION: i64 = 1;

const HEAD: &str = "\
# A plan of onnx-zip. `onnx-zip merge --plan FILE -o joint.onnx` repeats the merge.
# Options have their names on the command line. Options given there override these.
# To choose layers anew, remove the tables of layers.
";

/// A recorded merge.
///
/// ```
/// use onnx_zip::PlanFile;
///
/// let plan = PlanFile::parse("version = 1\n[options]\nshare = 0.5\n")?;
/// assert_eq!(plan.options["share"], ["0.5"]);
/// assert_eq!(PlanFile::parse(&plan.text())?, plan);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct PlanFile {
    /// Name and version of the program that wrote the plan.
    pub tool: Option<String>,
    /// The runtime, with version and device.
    pub runtime: Option<String>,
    /// The models, in their order.
    pub models: Vec<FileRecord>,
    /// Samples: one file for all models, or one per model.
    pub data: Vec<FileRecord>,
    /// Stored statistics that replace samples.
    pub gram: Vec<FileRecord>,
    /// Options with their values, in their order.
    pub options: IndexMap<String, Vec<String>>,
    /// Decisions about layers.
    pub layers: Vec<LayerRecord>,
}

/// A file that a merge reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its path, relative to the plan's folder.
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: Option<String>,
}

/// The decision about corresponding layers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerRecord {
    /// Name of the layer in each net; `None` where a net has none.
    pub layers: Vec<Option<String>>,
    /// Whether the weights are common.
    pub weights: Weights,
    /// The share of neurons, as in `--keep-shared`; `None` if the options decide.
    pub shared: Option<String>,
    /// The rank of each net's correction of common weights; empty if there are none.
    pub ranks: Vec<usize>,
    /// The bits of each net's difference from common weights; empty if there are none.
    pub bits: Vec<usize>,
    /// A comment for readers.
    pub about: String,
}

/// Whether the weights of corresponding layers are common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// Weights are stored once for all tasks, as far as possible.
    #[default]
    Common,
    /// Each task has its own weights.
    Own,
}

/// The file as parsed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: i64,
    tool: Option<String>,
    runtime: Option<String>,
    #[serde(default)]
    model: Vec<FileRecord>,
    #[serde(default)]
    data: Vec<FileRecord>,
    #[serde(default)]
    gram: Vec<FileRecord>,
    #[serde(default)]
    options: Table,
    #[serde(default)]
    layer: Vec<RawLayer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLayer {
    /// Its name, if it is the same in all nets.
    name: Option<String>,
    /// Its name in each net; empty if a net has none.
    names: Option<Vec<String>>,
    #[serde(default)]
    weights: Weights,
    shared: Option<Value>,
    #[serde(default)]
    ranks: Vec<usize>,
    #[serde(default)]
    bits: Vec<usize>,
}

impl PlanFile {
    /// Reads a plan.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for an invalid text, with the line.
    pub fn parse(text: &str) -> Result<PlanFile> {
        let raw: Raw = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            let message = e.message().lines().collect::<Vec<_>>().join(" ");
            fault(format!("it is no plan: line {line}: {message}"))
        })?;
        if raw.version != VERSION {
            let message =
                format!("its version is {}, and this program knows {VERSION}", raw.version);
            return Err(fault(message));
        }
        let option = |(name, value): (String, Value)| {
            let values = texts(&value)
                .ok_or_else(|| fault(format!("option '{name}' is neither text nor number")))?;
            Ok((name, values))
        };
        Ok(PlanFile {
            tool: raw.tool,
            runtime: raw.runtime,
            models: raw.model,
            data: raw.data,
            gram: raw.gram,
            options: raw.options.into_iter().map(option).collect::<Result<_>>()?,
            layers: raw.layer.into_iter().map(RawLayer::record).collect::<Result<_>>()?,
        })
    }

    /// The text of the file. Equal plans have equal texts.
    pub fn text(&self) -> String {
        let mut out = format!("{HEAD}version = {VERSION}\n");
        for (key, text) in [("tool", &self.tool), ("runtime", &self.runtime)] {
            if let Some(text) = text {
                line(&mut out, key, text.as_str().into());
            }
        }
        let files = [("model", &self.models), ("data", &self.data), ("gram", &self.gram)];
        for (kind, file) in files.iter().flat_map(|(kind, all)| all.iter().map(move |f| (kind, f)))
        {
            out.push_str(&format!("\n[[{kind}]]\n"));
            line(&mut out, "path", file.path.to_string_lossy().as_ref().into());
            if let Some(sum) = &file.sha256 {
                line(&mut out, "sha256", sum.as_str().into());
            }
        }
        if !self.options.is_empty() {
            out.push_str("\n[options]\n");
        }
        for (name, values) in &self.options {
            let value = match values.as_slice() {
                [one] => value(one),
                all => Value::Array(all.iter().map(|text| value(text)).collect()),
            };
            line(&mut out, name, value);
        }
        self.layers.iter().for_each(|layer| layer.write(&mut out));
        out
    }
}

impl LayerRecord {
    /// Appends the table of the layer.
    fn write(&self, out: &mut String) {
        out.push_str("\n[[layer]]\n");
        if !self.about.is_empty() {
            out.push_str(&format!("# {}\n", self.about));
        }
        let (key, names) = self.names();
        line(out, key, names);
        let weights = if self.weights == Weights::Own { "own" } else { "common" };
        line(out, "weights", weights.into());
        if let Some(shared) = &self.shared {
            line(out, "shared", value(shared));
        }
        let numbers = [("ranks", &self.ranks), ("bits", &self.bits)];
        for (key, numbers) in numbers.iter().filter(|(_, numbers)| !numbers.is_empty()) {
            let numbers = numbers.iter().map(|number| value(&number.to_string()));
            line(out, key, Value::Array(numbers.collect()));
        }
    }

    /// The key and the value that name the layer.
    fn names(&self) -> (&'static str, Value) {
        match self.layers.as_slice() {
            [Some(first), rest @ ..] if rest.iter().all(|other| other.as_ref() == Some(first)) => {
                ("name", first.as_str().into())
            }
            all => {
                let names = all.iter().map(|name| name.as_deref().unwrap_or_default().into());
                ("names", Value::Array(names.collect()))
            }
        }
    }

    /// Whether the record is about layers of these names, one per net.
    pub fn is_of(&self, layers: &[Option<String>]) -> bool {
        match self.layers.as_slice() {
            [only] => layers.iter().all(|name| name == only),
            all => all == layers,
        }
    }

    /// The layer's names, for messages.
    pub fn shown(&self) -> String {
        let names: Vec<&str> = self.layers.iter().map(|n| n.as_deref().unwrap_or("–")).collect();
        names.join(" | ")
    }
}

impl RawLayer {
    fn record(self) -> Result<LayerRecord> {
        let layers = match (self.name, self.names) {
            (Some(name), None) => vec![Some(name)],
            (None, Some(names)) if names.len() > 1 => {
                names.into_iter().map(|name| Some(name).filter(|n| !n.is_empty())).collect()
            }
            _ => {
                let message = "a layer has a name, or names in all models";
                return Err(fault(message.to_owned()));
            }
        };
        let shared = self.shared.map(|value| match texts(&value).as_deref() {
            Some([one]) => Ok(one.clone()),
            _ => Err(fault("'shared' of a layer is a number, or a part as text".to_owned())),
        });
        let shared = shared.transpose()?;
        let RawLayer { weights, ranks, bits, .. } = self;
        Ok(LayerRecord { layers, weights, shared, ranks, bits, about: String::new() })
    }
}

fn fault(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
        .hint(Hint::from("correct the plan, or write another with ").option("save-plan"))
}

/// Appends a key with its value.
fn line(out: &mut String, key: &str, value: Value) {
    out.push_str(&format!("{key} = {value}\n"));
}

/// The values of an option as typed; `None` for a value that the command line cannot express.
fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Float(x) => Some(format!("{x:?}")),
        Value::Boolean(is) => Some(is.to_string()),
        _ => None,
    };
    match value {
        Value::Array(all) => all.iter().map(one).collect(),
        other => one(other).map(|text| vec![text]),
    }
}

/// A typed text as the plainest TOML value that parses to the same text.
fn value(text: &str) -> Value {
    let same = |value: &Value| texts(value).is_some_and(|all| all == [text]);
    let integer = text.parse().map(Value::Integer).ok();
    let float = text.parse().ok().filter(|x: &f64| x.is_finite()).map(Value::Float);
    let truth = text.parse().map(Value::Boolean).ok();
    let plain = [integer, float, truth].into_iter().flatten().find(same);
    plain.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> PlanFile {
        let file = |path: &str| FileRecord { path: path.into(), sha256: Some("00ff".to_owned()) };
        let options = [
            ("scale", vec!["1/255"]),
            ("seed", vec!["7"]),
            ("damping", vec!["0.0001"]),
            ("share", vec!["80%"]),
            ("until", vec!["1.50"]),
            ("name", vec!["a \"quoted\"\nname", "b"]),
            ("no-recipe", vec!["true"]),
            ("mean", vec!["-0.5", "nan", "1e400"]),
        ];
        let texts = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect();
        let layer = |names: &[Option<&str>], shared: Option<&str>| LayerRecord {
            layers: names.iter().map(|name| name.map(str::to_owned)).collect(),
            weights: if shared.is_none() { Weights::Own } else { Weights::Common },
            shared: shared.map(str::to_owned),
            ranks: if shared == Some("50") { vec![0, 7] } else { Vec::new() },
            bits: if shared == Some("50%") { vec![0, 0, 4] } else { Vec::new() },
            about: String::new(),
        };
        PlanFile {
            tool: Some("onnx-zip 0.0.0".to_owned()),
            runtime: None,
            models: vec![file("a.onnx"), file("../Ω/b.onnx")],
            data: vec![file("x.npz")],
            gram: Vec::new(),
            options: options.map(|(name, all)| (name.to_owned(), texts(all))).into(),
            layers: vec![
                layer(&[Some("fc1")], Some("50")),
                layer(&[Some("fc2"), Some("dense"), None], None),
                layer(&[None, Some("x"), Some("y")], Some("50%")),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = plan().text();
        let again = PlanFile::parse(&text).unwrap();
        assert_eq!(again, plan(), "{text}");
        assert_eq!(again.text(), text);
        for line in ["seed = 7\n", "damping = 0.0001\n", "no-recipe = true\n", "until = \"1.50\"\n"]
        {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_with_the_line() {
        let cases = [
            ("", "version"),
            ("version = 2", "version is 2"),
            ("version = 1\nmodels = []", "line 2"),
            ("version = 1\n[[layer]]\nweights = \"mine\"", "mine"),
            ("version = 1\n[[layer]]\nweights = \"own\"", "has a name"),
            ("version = 1\n[options]\nseed = { a = 1 }", "'seed'"),
            ("version = 1\n[options]\nseed = 1979-05-27", "'seed'"),
            ("version = 1\n[[model]]\nsha256 = \"0\"", "path"),
            ("\u{0}\u{1}", "line 1"),
        ];
        for (text, part) in cases {
            let error = PlanFile::parse(text).unwrap_err();
            assert!(error.kind() == ErrorKind::Format, "{text}");
            let sentence = error.to_string();
            assert!(sentence.contains(part) && !sentence.contains('\n'), "{text:?}: {sentence}");
        }
    }
}
