//! One model, its layers and the channels that can be shared.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::OutsideRecord;
use super::format::{bytes, count};
use super::outside::{outside, several};
use super::table::{Left, Right, Table};
use super::text::notes;
use crate::naming::{counted, shown};

/// One model, its layers and the channels that can be shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelReport {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// Name and version of the program.
    pub tool: String,
    /// The file.
    pub path: String,
    /// Its SHA-256, in hexadecimal digits; that of the file and its external data, if there is any.
    pub sha256: String,
    /// Size of the model, external data included.
    pub bytes: u64,
    /// Program that wrote the model.
    pub producer: String,
    /// Version of the standard operator set.
    pub opset: i64,
    /// Inputs.
    pub inputs: Vec<PortRecord>,
    /// Outputs.
    pub outputs: Vec<PortRecord>,
    /// Weights and biases of all layers.
    pub parameters: u64,
    /// Layers with weights, in topological order.
    pub layers: Vec<LayerRecord>,
    /// Channels that move together.
    pub groups: Vec<GroupRecord>,
    /// Parameters that belong to no layer, by reason.
    #[serde(default)]
    pub outside: Vec<OutsideRecord>,
    /// Remarks about the model, as sentences.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PortRecord {
    /// Name.
    pub name: String,
    /// Element type; for what is no tensor, its kind, e.g. `sequence of maps`.
    pub dtype: String,
    /// Shape, e.g. `N×1×28×28`; empty for what is no tensor.
    pub shape: String,
}

/// A layer with weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerRecord {
    /// Name of its node.
    pub name: String,
    /// Kind and window, e.g. `Conv 5×5`.
    pub kind: String,
    /// Neurons.
    pub neurons: usize,
    /// Inputs.
    pub inputs: usize,
    /// Weights and biases.
    pub parameters: u64,
    /// Name of the group of its neurons; empty if they belong to several groups.
    pub group: String,
    /// The first layer that has the same weights and biases, which are stored once.
    #[serde(default)]
    pub same_as: Option<String>,
}

/// Channels that move together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupRecord {
    /// Name: that of the first producer.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// Producers.
    pub producers: Vec<String>,
    /// Consumers.
    pub consumers: Vec<String>,
    /// The reason if they are frozen.
    pub frozen: Option<String>,
    /// Whether a merge can share them.
    #[serde(default)]
    pub shareable: Shareable,
}

/// Whether a merge can share channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Shareable {
    /// In any order.
    #[default]
    Yes,
    /// Those of a model input: as they are, with the same input of another model.
    InOrder,
    /// Those that an output shows before later layers read them: with a model of the same backbone, or if
    /// outputs are shared.
    ByIndex,
    /// Those of an output: if outputs are shared.
    OnRequest,
    /// Never.
    No,
}

impl Shareable {
    fn text(self, why: Option<&String>) -> String {
        let when = match self {
            Shareable::Yes => "yes",
            Shareable::InOrder => "in their order",
            Shareable::ByIndex => "with fine-tunes of one backbone, or with shared outputs",
            Shareable::OnRequest => "with shared outputs",
            Shareable::No => "no",
        };
        why.map_or_else(|| when.to_owned(), |why| format!("{when}: {why}"))
    }
}

impl ModelReport {
    /// The model as text.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{}: {}, {} parameters in {}, opset {}",
            shown(&self.path),
            bytes(self.bytes),
            count(self.parameters),
            counted(self.layers.len(), "layer"),
            self.opset
        );
        if !self.producer.is_empty() {
            let _ = write!(out, ", written by {}", shown(&self.producer));
        }
        out.push_str("\n\n");
        for (what, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            for port in ports {
                let (name, shape) = (shown(&port.name), shown(&port.shape));
                let ty = format!("{} {shape}", port.dtype);
                let _ = writeln!(out, "  {what} {name}: {}", ty.trim_end());
            }
        }
        out.push('\n');
        out.push_str(&self.layer_table());
        out.push('\n');
        out.push_str(&self.group_table());
        if !self.outside.is_empty() {
            out.push('\n');
            out.push_str(&outside(&self.outside, ""));
        }
        out.push_str(&notes(&self.notes));
        out
    }

    fn layer_table(&self) -> String {
        let mut table = Table::new([
            ("layer", Left),
            ("kind", Left),
            ("inputs", Right),
            ("neurons", Right),
            ("parameters", Right),
            ("group", Left),
        ]);
        for layer in &self.layers {
            table.row([
                layer.name.clone(),
                layer.kind.clone(),
                layer.inputs.to_string(),
                layer.neurons.to_string(),
                match &layer.same_as {
                    Some(first) => format!("those of {first}"),
                    None => count(layer.parameters),
                },
                layer.group.clone(),
            ]);
        }
        table.render()
    }

    fn group_table(&self) -> String {
        let mut table = Table::new([
            ("group", Left),
            ("channels", Right),
            ("made by", Left),
            ("read by", Left),
            ("can be shared", Left),
        ]);
        for group in &self.groups {
            table.row([
                group.name.clone(),
                group.channels.to_string(),
                several(&group.producers),
                several(&group.consumers),
                group.shareable.text(group.frozen.as_ref()),
            ]);
        }
        table.render()
    }
}
