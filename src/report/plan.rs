//! The plan of a merge.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::apart::{apart, at_outputs};
use super::format::{bytes, count, each, percent};
use super::lineage::lineages;
use super::table::{Left, Right, Table};
use super::{SCHEMA, Structure, text};
use crate::mtz::plan::{Peak, Prediction};
use crate::naming::{sentence, shown};

/// The plan of a merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name and version of the program.
    pub tool: String,
    /// Names of the tasks, in order.
    pub tasks: Vec<String>,
    /// Number of layers with weights of each model.
    pub layers: Vec<usize>,
    /// Predicted sharing.
    pub prediction: Prediction,
    /// Parameters of the joint model at most, where a merge chooses from data what to share. The
    /// prediction is then that of full sharing, the least size. `None` where options say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// Predicted bytes of the joint model's file.
    #[serde(default)]
    pub file: u64,
    /// Bytes of the models' files.
    #[serde(default)]
    pub files: Vec<u64>,
    /// Predicted memory.
    pub memory: Peak,
    /// Corresponding parts, and parts that cannot be shared.
    pub structure: Structure,
    /// Remarks about the models, as sentences.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Plan {
    /// A plan of this version.
    pub fn new(
        tool: String,
        tasks: Vec<String>,
        layers: Vec<usize>,
        prediction: Prediction,
        (file, files): (u64, Vec<u64>),
        memory: Peak,
        structure: Structure,
    ) -> Self {
        let notes = Vec::new();
        Plan {
            schema: SCHEMA,
            tool,
            tasks,
            layers,
            prediction,
            most: None,
            file,
            files,
            memory,
            structure,
            notes,
        }
    }

    /// The plan as text.
    pub fn text(&self) -> String {
        let sites = &self.prediction.sites;
        let layers = match sites.len() {
            1 => "1 layer corresponds".to_owned(),
            n => format!("{n} layers correspond"),
        };
        let mut out = format!(
            "{}: {layers}, of {} with weights\n\n",
            sentence(&self.tasks.join(" + ")),
            each(&self.layers),
        );
        let reasons = sites.iter().map(|site| (site.layers.first(), site.reason.as_ref()));
        if let Some(why) = apart(&self.structure, reasons) {
            let _ = writeln!(out, "{}\n", sentence(&why));
        }
        if let Some(hint) = at_outputs(sites.iter().map(|site| site.reason.as_ref())) {
            let _ = writeln!(out, "{}\n", hint.in_flags());
        }
        out.push_str(&lineages(&self.structure.lineages));
        out.push_str(&self.site_table());
        out.push('\n');
        out.push_str(&text::structure(&self.structure, &self.tasks));
        out.push_str(&self.totals());
        out.push_str(&text::notes(&self.notes));
        out
    }

    fn site_table(&self) -> String {
        let mut table = Table::new([
            ("layer", Left),
            ("neurons", Right),
            ("shared", Right),
            ("inputs", Right),
            ("shared", Right),
            ("saved", Right),
            ("statistics", Right),
            ("", Left),
        ]);
        for site in &self.prediction.sites {
            table.row([
                each(&site.layers),
                each(&site.neurons),
                site.shared.to_string(),
                each(&site.inputs),
                site.shared_inputs.to_string(),
                count(site.saved),
                bytes(site.statistics),
                site.reason.clone().unwrap_or_default(),
            ]);
        }
        table.render()
    }

    fn totals(&self) -> String {
        let sizes = &self.prediction.sizes;
        let part = |n: u64, of: u64| percent(n as f64 / of.max(1) as f64);
        let smallest = sizes.originals.iter().copied().min().unwrap_or(0);
        let least = if self.most.is_some() { "at least " } else { "" };
        let mut out = format!(
            "parameters: {} before, {least}{} after: {} of all models{}\n",
            count(sizes.separate()),
            count(sizes.joint()),
            part(sizes.joint(), sizes.separate()),
            match smallest {
                0 => String::new(),
                _ => format!(", {} of the smallest", part(sizes.joint(), smallest)),
            },
        );
        let specific = self.tasks.iter().zip(&sizes.specific);
        let specific: Vec<String> =
            specific.map(|(task, n)| format!("{} for {task} only", count(*n))).collect();
        let specific = specific.join(", ");
        let _ = writeln!(out, "  of these {} shared, {}", count(sizes.shared), sentence(&specific));
        let all: u64 = self.files.iter().sum();
        let share = percent(self.file as f64 / all.max(1) as f64);
        let about = if self.most.is_some() { "at least" } else { "about" };
        let _ = writeln!(out, "file: {about} {}: {share} of {}", bytes(self.file), bytes(all));
        if let Some(most) = self.most {
            let _ = writeln!(
                out,
                "this is full sharing; a merge chooses from data what to leave to the tasks, up to {} \
                 parameters: {} of all models",
                count(most),
                part(most, sizes.separate()),
            );
        }
        let Peak { models, work, layer } = &self.memory;
        let at = match layer {
            Some(layer) => format!("at layer {}", shown(layer)),
            None => "in a runtime".to_owned(),
        };
        let _ = writeln!(
            out,
            "memory: at most {}: {} for the models and {} {at}",
            bytes(self.memory.bytes()),
            bytes(*models),
            bytes(*work),
        );
        out
    }
}
