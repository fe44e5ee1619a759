//! The report of a verification.

use std::fmt::Write;

use super::format::{error, percent, small};
use super::table::{Left, Right, Table};
use crate::naming::sentence;
use crate::verify::{TaskVerification, Verification};

/// The verification as text.
pub fn verification(report: &Verification) -> String {
    let mut out = task_table(&report.tasks);
    out.push('\n');
    let samples = report.tasks.iter().map(|t| t.samples).max().unwrap_or(0);
    let runtimes = report.runtimes.join(" and ");
    if report.passed() {
        let _ = writeln!(out, "verified on {samples} samples in {runtimes}");
    } else {
        let _ = match report.runtimes.is_empty() {
            true => writeln!(out, "verification FAILED:"),
            false => writeln!(out, "verification FAILED on {samples} samples in {runtimes}:"),
        };
        report.failures.iter().for_each(|failure| {
            let _ = writeln!(out, "  {}", sentence(failure));
        });
    }
    for unable in &report.unable {
        let _ = writeln!(out, "not compared in {}", sentence(unable));
    }
    out
}

fn task_table(tasks: &[TaskVerification]) -> String {
    let mut table = Table::new([
        ("task", Left),
        ("agreement", Right),
        ("error before", Right),
        ("after", Right),
        ("output", Left),
        ("deviation: largest", Right),
        ("mean", Right),
        ("relative", Right),
    ]);
    for task in tasks {
        for (i, output) in task.outputs.iter().enumerate() {
            let first = output.runtimes.first().map(|r| r.original).unwrap_or_default();
            let once = |text: Option<String>| match i {
                0 => text.unwrap_or_else(|| "–".to_owned()),
                _ => String::new(),
            };
            table.row([
                once(Some(task.name.clone())),
                once(task.agreement.map(percent)),
                once(task.error_before.map(error)),
                once(task.error_after.map(error)),
                output.name.clone(),
                small(first.max),
                small(first.mean),
                percent(first.relative),
            ]);
        }
    }
    table.render()
}
