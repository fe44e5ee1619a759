//! Parameters that belong to no layer.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::format::count;
use super::table::{Left, Right, Table};
use crate::couple::Outside;
use crate::naming::shown;

/// Parameters of one model that belong to no layer, all for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutsideRecord {
    /// The reason, as a noun phrase.
    pub reason: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Names of the constants.
    pub names: Vec<String>,
    /// The inputs that decide which sub-graph runs that reads them; empty where nothing of a few elements does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decided_by: Vec<String>,
}

impl OutsideRecord {
    /// One record per reason, by descending number of parameters.
    pub fn by_reason(all: Vec<Outside>) -> Vec<OutsideRecord> {
        let mut records: Vec<OutsideRecord> = Vec::new();
        for Outside { name, elements, reason, decided_by, .. } in all {
            match records.iter_mut().find(|record| record.reason == reason) {
                Some(record) => {
                    record.parameters = record.parameters.saturating_add(elements);
                    record.names.push(name);
                }
                None => records.push(OutsideRecord {
                    reason,
                    parameters: elements,
                    names: vec![name],
                    decided_by,
                }),
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.parameters));
        records
    }
}

/// How to share layers in branches that inputs decide about, as a sentence; `None` without such branches.
pub(crate) fn decidable(records: &[OutsideRecord]) -> Option<String> {
    let mut decided = records.iter().filter(|record| !record.decided_by.is_empty());
    let OutsideRecord { parameters, decided_by, .. } = decided.next()?;
    let names: Vec<String> = decided_by.iter().map(|name| format!("'{}'", shown(name))).collect();
    let flags: Vec<String> =
        decided_by.iter().map(|name| format!("--input '{}=VALUE'", shown(name))).collect();
    let (what, decide) = if names.len() == 1 { ("input", "decides") } else { ("inputs", "decide") };
    Some(format!(
        "{} parameters are in branches that the {what} {} {decide} about, so they belong to no layer that could be \
         shared; `onnx-zip fix MODEL {} -o FILE` writes the model for one value, with its layers",
        count(*parameters),
        names.join(", "),
        flags.join(" "),
    ))
}

/// The records as a table below a line with the number of parameters; empty without records. `whose`
/// names the model.
pub(super) fn outside(records: &[OutsideRecord], whose: &str) -> String {
    if records.is_empty() {
        return String::new();
    }
    let total = records.iter().fold(0u64, |sum, record| sum.saturating_add(record.parameters));
    let mut out = String::new();
    let _ = writeln!(out, "{} parameters{whose} belong to no layer:", count(total));
    let mut table = Table::new([("parameters", Right), ("constants", Left), ("why", Left)]);
    for record in records {
        let names = several(&record.names);
        table.row([count(record.parameters), names, record.reason.clone()]);
    }
    out.push_str(&table.render());
    out
}

/// A list of names that stays short.
pub(super) fn several(names: &[String]) -> String {
    const SHOWN: usize = 2;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 if names.is_empty() => "–".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
