//! Parameters that belong to no layer.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::format::count;
use super::table::{Left, Right, Table};
use crate::couple::Outside;

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
}

impl OutsideRecord {
    /// One record per reason, by descending number of parameters.
    pub fn by_reason(all: Vec<Outside>) -> Vec<OutsideRecord> {
        let mut records: Vec<OutsideRecord> = Vec::new();
        for Outside { name, elements, reason, .. } in all {
            match records.iter_mut().find(|record| record.reason == reason) {
                Some(record) => {
                    record.parameters = record.parameters.saturating_add(elements);
                    record.names.push(name);
                }
                None => {
                    records.push(OutsideRecord { reason, parameters: elements, names: vec![name] })
                }
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.parameters));
        records
    }
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
