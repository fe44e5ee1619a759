//! The comparison of a joint model with its originals, as text.

use std::fmt::Write;

use super::format::{bytes, count, small};
use super::table::{Left, Right, Table};
use crate::compare::{Against, Comparison};

/// One row: what is compared, the joint model, its originals together, the ratio.
pub(super) type Row = [String; 4];

/// The comparison as rows of texts.
pub(super) fn rows(compared: &Comparison) -> Vec<Row> {
    let mut rows = vec![
        row("file", compared.bytes, bytes),
        row("parameters", compared.parameters, count),
        row("nodes", compared.nodes, count),
    ];
    rows.extend(compared.multiply_adds.map(|n| row("multiply-adds", n, count)));
    rows.extend(compared.latency.as_ref().map(|latency| {
        let originals = latency.originals.iter().sum();
        ["latency".to_owned(), time(latency.joint), time(originals), ratio(latency.ratio)]
    }));
    rows.extend(compared.memory.map(|n| row("memory to load", n, bytes)));
    rows
}

fn row(name: &str, against: Against<u64>, text: fn(u64) -> String) -> Row {
    let Against { joint, originals, ratio: part } = against;
    [name.to_owned(), text(joint), text(originals), ratio(part)]
}

/// A ratio with two decimals.
fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// A latency in milliseconds.
fn time(seconds: f64) -> String {
    format!("{} ms", small(1e3 * seconds))
}

/// Notes on the measurement, and measurements that failed.
pub(super) fn remarks(compared: &Comparison) -> Vec<String> {
    let measured = compared.latency.as_ref().map(|latency| {
        format!(
            "latency of all tasks' outputs, a sample at a time on one thread of {}, {} rounds",
            latency.runtime, latency.rounds
        )
    });
    let missing = compared.unmeasured.iter().map(|what| format!("not measured: {what}"));
    measured.into_iter().chain(missing).collect()
}

/// The comparison as text.
pub(super) fn comparison(compared: &Comparison) -> String {
    let columns =
        [("against the originals", Left), ("joint", Right), ("originals", Right), ("ratio", Right)];
    let mut table = Table::new(columns);
    rows(compared).into_iter().for_each(|row| table.row(row));
    let mut out = table.render();
    for remark in remarks(compared) {
        let _ = writeln!(out, "  {remark}");
    }
    out
}

/// The respects in which the joint model is worse than its originals, as a sentence; `None` if it is
/// smaller and no slower.
pub fn complaint(compared: &Comparison) -> Option<String> {
    let Comparison { bytes: sizes, latency, .. } = compared;
    let larger = (!compared.is_smaller()).then(|| {
        let (joint, originals) = (bytes(sizes.joint), bytes(sizes.originals));
        format!("no smaller than its originals together ({joint} against {originals})")
    });
    let slower = latency.as_ref().filter(|latency| latency.slower).map(|latency| {
        let (joint, originals) = (time(latency.joint), time(latency.originals.iter().sum()));
        format!("slower than its originals together ({joint} against {originals})")
    });
    let worse: Vec<String> = larger.into_iter().chain(slower).collect();
    (!worse.is_empty()).then(|| format!("the joint model is {}", worse.join(" and ")))
}
