//! A merge as a model card: Markdown under the metadata that GitHub and Hugging Face read.

use std::fmt::Write;

use super::Report;
use super::comparison::rows;
use super::format::{bytes, count, each, error, percent, small};
use crate::mtz::site::SiteRecord;
use crate::naming;
use crate::verify::Verification;

/// The report as a model card.
pub fn card(report: &Report) -> String {
    let names: Vec<String> = report.tasks.iter().map(|t| plain(&t.name)).collect();
    let mut out = metadata(report);
    let _ = writeln!(out, "# {}\n", names.join(" + "));
    let gain = &report.compression;
    let _ = writeln!(
        out,
        "One ONNX model for {} tasks, merged from {} trained models with {}: **{} of their bytes**, {} of \
         their parameters.\n",
        report.tasks.len(),
        report.tasks.len(),
        plain(&report.tool),
        percent(gain.bytes_of_all),
        percent(gain.parameters_of_all),
    );
    for warning in &report.warnings {
        let _ = writeln!(out, "> **Note:** {}\n", plain(warning));
    }
    out.push_str(&sizes(report));
    if let Some(checked) = &report.verification {
        out.push_str(&accuracy(checked));
    }
    if let Some(compared) = &report.comparison {
        out.push_str(
            "## Against the originals\n\n| | joint | originals | ratio |\n|---|---|---|---|\n",
        );
        for row in rows(compared) {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
    }
    out.push_str(&usage(report));
    out.push_str(&layers(&report.layers));
    out.push_str(&origin(report));
    out
}

/// The block of metadata at the top, in YAML.
fn metadata(report: &Report) -> String {
    let mut out =
        "---\nlibrary_name: onnx\ntags:\n- onnx\n- merge\n- multi-task\n- onnx-zip\n".to_owned();
    let errors = report.verification.iter().flat_map(|v| &v.tasks).any(|t| t.error_after.is_some());
    if errors {
        out.push_str("metrics:\n- accuracy\n");
    }
    // The publisher of the card fills these in.
    out.push_str(
        "# license:\n# base_model:\n# - NAME/MODEL\n# base_model_relation: merge\n---\n\n",
    );
    out
}

fn sizes(report: &Report) -> String {
    let mut out = "## Size\n\n| model | parameters | file |\n|---|---|---|\n".to_owned();
    let mut row = |name: &str, n: u64, size: &str| {
        let _ = writeln!(out, "| {name} | {} | {size} |", count(n));
    };
    for task in &report.tasks {
        row(&plain(&task.name), task.parameters, &bytes(task.bytes));
    }
    let parameters = &report.joint.parameters;
    row("**joint**", parameters.total, &bytes(report.joint.bytes));
    row("– shared", parameters.shared, "");
    for (task, n) in &parameters.specific {
        row(&format!("– {} only", plain(task)), *n, "");
    }
    out.push('\n');
    out
}

fn accuracy(checked: &Verification) -> String {
    let part = |x: Option<f64>, text: fn(f64) -> String| x.map_or("–".to_owned(), text);
    let mut out =
        "## Accuracy\n\n| task | samples | agreement with the original | error of the original | \
                   error of the joint model |\n|---|---|---|---|---|\n"
            .to_owned();
    for task in &checked.tasks {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            plain(&task.name),
            task.samples,
            part(task.agreement, percent),
            part(task.error_before, error),
            part(task.error_after, error),
        );
    }
    if checked.passed() {
        let _ = writeln!(out, "\nChecked in {}.", plain(&checked.runtimes.join(" and ")));
    }
    for failure in &checked.failures {
        let _ = writeln!(out, "\n> **Failed:** {}", plain(failure));
    }
    out.push('\n');
    out
}

fn usage(report: &Report) -> String {
    let odd = |c: char| naming::is_active(c) || matches!(c, '\\' | '"' | '`');
    let file = file_name(&report.joint.path).replace(odd, "");
    format!(
        "## Use\n\nForm `{}`, {} inputs. Outputs are called `TASK/OUTPUT`.\n\n```python\nimport onnxruntime\n\n\
         session = onnxruntime.InferenceSession(\"{file}\")\nfor port in session.get_inputs():\n    \
         print(port.name, port.type, port.shape)\noutputs = session.run(None, {{...}})  # an array per input, \
         prepared as for the original models\n```\n\n",
        plain(&report.joint.form),
        plain(&report.joint.inputs),
    )
}

fn layers(sites: &[SiteRecord]) -> String {
    let mut out = "## Layers\n\n| layer | neurons | shared | predicted cost | error |\n|---|---|---|---|---|\n".to_owned();
    for site in sites {
        let name = plain(&each(&site.layers));
        let neurons = each(&site.neurons);
        let _ = match &site.reason_with_hint() {
            Some(reason) => writeln!(out, "| {name} | {neurons} | – | {} | |", plain(reason)),
            None => {
                let errors: Vec<String> =
                    site.relative_errors.iter().map(|e| percent(*e)).collect();
                let (cost, errors) = (small(site.cost), plain(&each(&errors)));
                writeln!(out, "| {name} | {neurons} | {} | {cost} | {errors} |", site.shared)
            }
        };
    }
    out.push('\n');
    out
}

fn origin(report: &Report) -> String {
    let mut out =
        "## Origin\n\n| task | model | SHA-256 | samples |\n|---|---|---|---|\n".to_owned();
    for task in &report.tasks {
        // The card shows no paths of the machine.
        let (samples, source) = task.samples(file_name);
        let _ = writeln!(
            out,
            "| {} | {} | `{}` | {} of {} |",
            plain(&task.name),
            plain(file_name(&task.path)),
            plain(&task.sha256),
            samples,
            plain(&source),
        );
    }
    let settings = report.settings.rows(file_name).into_iter();
    let settings: Vec<String> =
        settings.map(|(name, value)| format!("{} {}", plain(&name), plain(&value))).collect();
    let _ = writeln!(out, "\nJoint model: SHA-256 `{}`.", plain(&report.joint.sha256));
    let _ = writeln!(out, "Made with {}: {}.", plain(&report.runtime), settings.join(", "));
    out
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default()
}

/// Escapes a text for a table in Markdown. Names come from files and may hold anything.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '<' | '>' | '[' | ']' | '`' | '\\' | '_' | '#' | '*' | '~' | '&' => {
                out.extend(['\\', c]);
            }
            c if naming::is_active(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
