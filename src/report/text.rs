//! The report of a merge as text.

use std::fmt::Write;

use super::comparison::comparison;
use super::format::{bytes, count, each, percent, seconds, small};
use super::lineage::lineages;
use super::outside::outside;
use super::retraining::rounds;
use super::table::{Left, Right, Table};
use super::verification::verification;
use super::{Report, Structure};
use crate::mtz::site::SiteRecord;
use crate::naming::{counted, sentence, shown};

/// Number of layers that are shown by default.
const SHOWN_LAYERS: usize = 16;

/// The report as text; with `all`, every layer is shown.
pub fn text(report: &Report, all: bool) -> String {
    let mut out = headline(report);
    out.push('\n');
    out.push_str(&sizes(report));
    out.push('\n');
    out.push_str(&lineages(&report.structure.lineages));
    out.push_str(&layers(report, all));
    out.push_str(&search(report));
    let names: Vec<String> = report.tasks.iter().map(|t| t.name.clone()).collect();
    let structure = structure(&report.structure, &names);
    if all && !structure.is_empty() {
        let _ = write!(out, "\n{structure}");
    }
    if let Some(retrained) = &report.retraining {
        let _ = write!(out, "\n{}", rounds(retrained));
    }
    if let Some(checked) = &report.verification {
        let _ = write!(out, "\n{}", verification(checked));
    }
    if let Some(compared) = &report.comparison {
        let _ = write!(out, "\n{}\n", comparison(compared));
    }
    out.push_str(&times(report));
    out.push_str(&notes(&report.warnings));
    out
}

/// Remarks, one a line.
pub(super) fn notes(remarks: &[String]) -> String {
    remarks.iter().map(|remark| format!("note: {}\n", sentence(remark))).collect()
}

fn headline(report: &Report) -> String {
    let (joint, gain) = (&report.joint, &report.compression);
    format!(
        "{}{}: {} tasks in {}, {} of all models together, {} of the smallest\n",
        shown(&joint.path),
        if joint.written { "" } else { " (NOT written)" },
        report.tasks.len(),
        bytes(joint.bytes),
        percent(gain.bytes_of_all),
        percent(gain.bytes_of_smallest),
    )
}

fn sizes(report: &Report) -> String {
    let mut table = Table::new([("", Left), ("parameters", Right), ("file", Right)]);
    for task in &report.tasks {
        table.row([task.name.clone(), count(task.parameters), bytes(task.bytes)]);
    }
    let joint = &report.joint;
    table.row(["joint".to_owned(), count(joint.parameters.total), bytes(joint.bytes)]);
    table.row(["  shared".to_owned(), count(joint.parameters.shared), String::new()]);
    for (task, n) in &joint.parameters.specific {
        table.row([format!("  {task} only"), count(*n), String::new()]);
    }
    table.render()
}

fn layers(report: &Report, all: bool) -> String {
    let mut table = Table::new([
        ("layer", Left),
        ("neurons", Right),
        ("shared", Right),
        ("inputs", Right),
        ("shared", Right),
        ("cost", Right),
        ("error", Right),
        ("", Left),
    ]);
    let shown = if all { report.layers.len() } else { SHOWN_LAYERS };
    for site in report.layers.iter().take(shown) {
        let shared = site.reason.is_none();
        let number = |text: String| if shared { text } else { "–".to_owned() };
        table.row([
            each(&site.layers),
            each(&site.neurons),
            number(site.shared.to_string()),
            each(&site.inputs),
            site.shared_inputs.to_string(),
            number(small(site.cost)),
            number(relative(site)),
            site.reason_with_hint().unwrap_or_else(|| corrections(site)),
        ]);
    }
    let mut out = table.render();
    let hidden = report.layers.len().saturating_sub(shown);
    if hidden > 0 {
        let _ = writeln!(out, "  … and {}; -v shows them all", counted(hidden, "more layer"));
    }
    out
}

/// The tasks' own parts of a layer besides common weights.
fn corrections(site: &SiteRecord) -> String {
    let bits = site.bits.iter().map(|(_, bits)| *bits).max();
    if let Some(bits) = bits {
        return format!("difference of {bits} bits");
    }
    let ranks: Vec<String> = site.ranks.iter().map(|(_, rank)| rank.to_string()).collect();
    match site.ranks.iter().map(|(_, rank)| *rank).max() {
        None => String::new(),
        Some(0) => "scaled per task".to_owned(),
        Some(_) => format!("correction of rank {}", each(&ranks)),
    }
}

/// The predicted error of a layer's shared neurons relative to their mean square, per task.
pub(super) fn relative(site: &SiteRecord) -> String {
    let texts: Vec<String> = site.relative_errors.iter().map(|e| percent(*e)).collect();
    each(&texts)
}

/// Differences of the models, and frozen channels; `tasks` are the tasks' names.
pub(super) fn structure(structure: &Structure, tasks: &[String]) -> String {
    let mut out = String::new();
    for (task, divergence) in tasks.iter().skip(1).zip(&structure.divergences) {
        let Some(d) = divergence else { continue };
        let of = if tasks.len() > 2 { format!(" of {}", shown(task)) } else { String::new() };
        let end = || "the end".to_owned();
        let (a, b) = (d.a.clone().unwrap_or_else(end), d.b.clone().unwrap_or_else(end));
        let (a, b, difference) = (shown(&a), shown(&b), sentence(&d.difference));
        let _ = writeln!(out, "first difference{of}: {a} against {b} ({difference})");
    }
    for (task, layers) in tasks.iter().zip(&structure.unmatched) {
        if !layers.is_empty() {
            let line = format!("without a counterpart in {task}: {}", layers.join(", "));
            let _ = writeln!(out, "{}", sentence(&line));
        }
    }
    for frozen in &structure.frozen {
        let (task, group, n) = (&frozen.task, &frozen.group, counted(frozen.channels, "channel"));
        let line = format!("frozen in {task}: {group} ({n}): {}", frozen.reason);
        let _ = writeln!(out, "{}", sentence(&line));
    }
    for (task, records) in tasks.iter().zip(&structure.outside) {
        out.push_str(&outside(records, &format!(" of {task}")));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// Merges that were tried for a goal.
fn search(report: &Report) -> String {
    let mut out = String::new();
    for trial in &report.search {
        let drops: Vec<String> = trial.drops.iter().map(|d| format!("{:+.2}", 100.0 * d)).collect();
        let drops = match drops.is_empty() {
            true => String::new(),
            false => format!(", errors {} points", drops.join(", ")),
        };
        let kept = if trial.kept { ": kept" } else { "" };
        let _ = writeln!(out, "tried {} of all models{drops}{kept}", percent(trial.size));
    }
    if !out.is_empty() {
        out.insert(0, '\n');
    }
    out
}

fn times(report: &Report) -> String {
    let total: f64 = report.seconds.iter().map(|s| s.seconds).sum();
    let worth_saying = report.seconds.iter().filter(|s| s.seconds >= 0.05);
    let stages: Vec<String> =
        worth_saying.map(|s| format!("{} {}", s.stage, seconds(s.seconds))).collect();
    let stages = if stages.is_empty() { String::new() } else { format!(": {}", stages.join(", ")) };
    format!("{} with {}{stages}\n", seconds(total), report.runtime)
}
