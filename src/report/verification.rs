//! The report of a verification.

use std::fmt::Write;

use super::format::{error, percent, small};
use super::table::{Left, Right, Table};
use crate::naming::{counted, sentence};
use crate::verify::{TaskVerification, Verification};

/// The verification as text.
pub fn verification(report: &Verification) -> String {
    let mut out = task_table(&report.tasks);
    out.push('\n');
    let extent = extent(report);
    if report.passed() {
        let _ = writeln!(out, "verified{extent}");
    } else {
        let _ = writeln!(out, "verification FAILED{extent}:");
        report.failures.iter().for_each(|failure| {
            let _ = writeln!(out, "  {}", sentence(failure));
        });
    }
    for unable in &report.unable {
        let _ = writeln!(out, "not compared in {}", sentence(unable));
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {}", sentence(note));
    }
    out
}

/// How many samples were run, and where.
fn extent(report: &Verification) -> String {
    let Some((first, others)) = report.runtimes.split_first() else { return String::new() };
    let samples = report.tasks.iter().map(|task| task.samples).max().unwrap_or(0);
    let outputs = report.tasks.iter().flat_map(|task| &task.outputs);
    let confirming = outputs.flat_map(|output| output.runtimes.iter().skip(1));
    let confirmed = confirming.map(|runtime| runtime.samples).max().unwrap_or(samples);
    let all = counted(samples, "sample");
    match confirmed < samples {
        true => {
            let others = others.join(" and ");
            format!(" on {all} in {first}, and on {confirmed} of them in {others}")
        }
        false => format!(" on {all} in {}", report.runtimes.join(" and ")),
    }
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
