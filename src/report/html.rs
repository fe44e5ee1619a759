//! A merge as one self-contained web page.

use maud::{DOCTYPE, Markup, PreEscaped, html as page};

use super::chart::{Axis, Series, Spot, chart};
use super::comparison::{remarks, rows};
use super::format::{bytes, count, each, error, percent, seconds, small};
use super::outside::several;
use super::picture::{COLOURS, drawing};
use super::text::relative;
use super::{Report, Trial};
use crate::compare::Comparison;
use crate::mtz::site::SiteRecord;
use crate::naming;
use crate::verify::Verification;

const STYLE: &str = include_str!("style.css");

/// The report as a self-contained page.
pub fn html(report: &Report) -> String {
    let names: Vec<&str> = report.tasks.iter().map(|t| t.name.as_str()).collect();
    let title = names.join(" + ");
    let body = page! {
        h1 { (title) }
        (summary(report))
        @for warning in &report.warnings { p.warning { (warning) } }
        h2 { "Size" } (sizes(report))
        @if !report.picture.boxes.is_empty() {
            h2 { "The joint graph" } (drawing(&report.picture, &names))
        }
        @if report.search.len() > 1 { h2 { "What was tried" } (tried(&report.search)) }
        @if let Some(checked) = &report.verification {
            h2 { "Accuracy" } (verification(checked))
        }
        @if let Some(compared) = &report.comparison {
            h2 { "Against the originals" } (comparison(compared))
        }
        h2 { "Layers" } (layers(&report.layers))
        h2 { "Structure" } (structure(report, &names))
        h2 { "How it was made" } (provenance(report))
    };
    whole(&title, &body)
}

/// A self-contained page around a body.
pub(super) fn whole(title: &str, body: &Markup) -> String {
    let page = page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – onnx-zip" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    naming::lines(&page.into_string()).into_owned()
}

fn summary(report: &Report) -> Markup {
    let gain = &report.compression;
    let latency = report.comparison.as_ref().and_then(|c| c.latency.as_ref());
    page! {
        p.summary {
            code { (report.joint.path) } " holds " (report.tasks.len()) " tasks in "
            (bytes(report.joint.bytes)) ": " strong { (percent(gain.bytes_of_all)) }
            " of all models together, " (percent(gain.bytes_of_smallest)) " of the smallest."
        }
        div.cards {
            div.card { span.figure { (percent(gain.bytes_of_all)) } span { "of all models' bytes" } }
            div.card {
                span.figure { (percent(gain.parameters_of_all)) } span { "of their parameters" }
            }
            @for task in report.verification.iter().flat_map(|v| &v.tasks) {
                @if let (Some(before), Some(after)) = (task.error_before, task.error_after) {
                    div.card {
                        span.figure { (error(before)) " → " (error(after)) }
                        span { "error of " (task.name) }
                    }
                } @else if let Some(agreement) = task.agreement {
                    div.card {
                        span.figure { (percent(agreement)) }
                        span { (task.name) ": same class as the original" }
                    }
                }
            }
            @if let Some(latency) = latency {
                div.card {
                    span.figure { (small(latency.ratio)) " ×" }
                    span { "latency of all originals" }
                }
            }
        }
    }
}

/// Merges that were tried for a goal.
fn tried(trials: &[Trial]) -> Markup {
    let spot = |trial: &Trial| {
        let worst = trial.drops.iter().copied().reduce(f64::max);
        let y = worst.or(trial.deviation)?;
        let title = format!("{} of all parameters: {}", percent(trial.size), error(y));
        Some(Spot { x: trial.size, y, title, marked: trial.kept })
    };
    let mut points: Vec<Spot> = trials.iter().filter_map(spot).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    let rises = trials.iter().any(|t| !t.drops.is_empty());
    let name = if rises { "largest rise of an error" } else { "deviation of the outputs" };
    let across = Axis::of(points.iter().map(|s| s.x), |x| format!("{:.0} %", 100.0 * x));
    let up =
        Axis::of(points.iter().map(|s| s.y).chain([0.0]), |y| format!("{} %", small(100.0 * y)));
    let series = Series {
        name: format!("{name}; the kept one is ringed"),
        class: "shared".to_owned(),
        points,
    };
    page! {
        (chart(&[series], (&across, &up), ("parameters, of all models together", name)))
        p.hint { code { "onnx-zip frontier" } " measures the whole curve." }
    }
}

fn sizes(report: &Report) -> Markup {
    let parameters = &report.joint.parameters;
    let whole = report.tasks.iter().map(|t| t.parameters).sum::<u64>().max(parameters.total);
    let row = |name: &str, n: u64, size: Option<u64>, class: String| {
        page! {
            tr {
                td { (name) }
                td.number { (count(n)) }
                td.number { @if let Some(size) = size { (bytes(size)) } }
                td { (bar(n as f64 / whole.max(1) as f64, &class)) }
            }
        }
    };
    let colour = |task: usize| format!("t{}", task % COLOURS);
    page! {
        table {
            tr { th { "model" } th.number { "parameters" } th.number { "file" } th {} }
            @for (at, task) in report.tasks.iter().enumerate() {
                (row(&task.name, task.parameters, Some(task.bytes), colour(at)))
            }
            tr.joint {
                td { strong { "joint" } }
                td.number { (count(parameters.total)) }
                td.number { (bytes(report.joint.bytes)) }
                td {
                    div.track {
                        (piece(parameters.shared, whole, "shared"))
                        @for (at, n) in parameters.specific.values().enumerate() {
                            (piece(*n, whole, &colour(at)))
                        }
                    }
                }
            }
            (row("– shared", parameters.shared, None, "shared".to_owned()))
            @for (at, (task, n)) in parameters.specific.iter().enumerate() {
                (row(&format!("– {task} only"), *n, None, colour(at)))
            }
        }
    }
}

/// A piece of a bar.
fn piece(n: u64, whole: u64, class: &str) -> Markup {
    let width = format!("width:{:.1}%", 100.0 * n as f64 / whole.max(1) as f64);
    page! { div class=(format!("bar {class}")) style=(width) {} }
}

/// A bar of this part of the full width.
fn bar(part: f64, class: &str) -> Markup {
    let width = format!("width:{:.1}%", 100.0 * part.clamp(0.0, 1.0));
    page! { div.track { div class=(format!("bar {class}")) style=(width) {} } }
}

fn layers(sites: &[SiteRecord]) -> Markup {
    page! {
        div.wide { table {
            tr {
                th { "layer" } th.number { "neurons" } th.number { "shared" } th { "share" }
                th.number { "inputs" } th.number { "shared" }
                th.number { "predicted cost" } th.number { "error" }
            }
            @for site in sites {
                tr {
                    td { (each(&site.layers)) }
                    td.number { (each(&site.neurons)) }
                    @if let Some(reason) = &site.reason_with_hint() {
                        td.number { "–" } td.reason { (reason) }
                    } @else {
                        td.number { (site.shared) } td { (bar(share(site), "shared")) }
                    }
                    td.number { (each(&site.inputs)) }
                    td.number { (site.shared_inputs) }
                    td.number { @if site.reason.is_none() { (small(site.cost)) } }
                    td.number { @if site.reason.is_none() { (relative(site)) } }
                }
            }
        } }
    }
}

fn share(site: &SiteRecord) -> f64 {
    let smaller = site.neurons.iter().copied().min().unwrap_or(0).max(1);
    site.shared as f64 / smaller as f64
}

fn verification(report: &Verification) -> Markup {
    let part = |x: Option<f64>, text: fn(f64) -> String| x.map_or("–".to_owned(), text);
    page! {
        table {
            tr {
                th { "task" } th.number { "samples" } th.number { "agreement" }
                th.number { "error before" } th.number { "after" } th { "output" }
                th.number { "largest deviation" } th.number { "mean" } th.number { "relative" }
            }
            @for task in &report.tasks {
                @for output in &task.outputs {
                    @let first = output.runtimes.first().map(|r| r.original).unwrap_or_default();
                    tr {
                        td { (task.name) } td.number { (task.samples) }
                        td.number { (part(task.agreement, percent)) }
                        td.number { (part(task.error_before, error)) }
                        td.number { (part(task.error_after, error)) }
                        td { (output.name) } td.number { (small(first.max)) }
                        td.number { (small(first.mean)) } td.number { (percent(first.relative)) }
                    }
                }
            }
        }
        @if report.passed() {
            p { "The file computes what it must in " (report.runtimes.join(" and ")) "." }
        }
        @for failure in &report.failures { p.warning { (failure) } }
        @for unable in &report.unable { p { "Not compared in " (unable) "." } }
        @for note in &report.notes { p { "Note: " (note) "." } }
    }
}

fn comparison(compared: &Comparison) -> Markup {
    page! {
        table {
            tr { th {} th.number { "joint" } th.number { "originals" } th.number { "ratio" } }
            @for [name, joint, originals, ratio] in rows(compared) {
                tr {
                    td { (name) } td.number { (joint) } td.number { (originals) }
                    td.number { (ratio) }
                }
            }
        }
        @for remark in remarks(compared) { p { (remark) "." } }
    }
}

fn structure(report: &Report, names: &[&str]) -> Markup {
    let structure = &report.structure;
    page! {
        ul {
            @for (task, divergence) in names.iter().skip(1).zip(&structure.divergences) {
                @if let Some(d) = divergence {
                    li {
                        "First difference of " (task) ": "
                        code { (d.a.as_deref().unwrap_or("the end")) } " against "
                        code { (d.b.as_deref().unwrap_or("the end")) } " (" (d.difference) ")."
                    }
                }
            }
            @for record in &structure.lineages { li { (record.sentence()) "." } }
            @if structure.divergences.iter().flatten().next().is_none() {
                li { "All layers with weights correspond." }
            }
            @for (task, layers) in names.iter().zip(&structure.unmatched) {
                @if !layers.is_empty() {
                    li { "Without a counterpart in " (task) ": " (layers.join(", ")) "." }
                }
            }
            @for frozen in &structure.frozen {
                li {
                    "Frozen in " (frozen.task) ": " code { (frozen.group) } " ("
                    (naming::counted(frozen.channels, "channel")) "): " (frozen.reason) "."
                }
            }
            @for (task, records) in names.iter().zip(&structure.outside) {
                @for record in records {
                    li {
                        (count(record.parameters)) " parameters of " (task) " belong to no layer: "
                        (record.reason) " (" (several(&record.names)) ")."
                    }
                }
            }
        }
    }
}

fn provenance(report: &Report) -> Markup {
    page! {
        table {
            @for task in &report.tasks {
                tr { th { (task.name) } td { code { (task.path) } br; code.hash { (task.sha256) } } }
                tr {
                    th { "– data" }
                    @let (samples, source) = task.samples(|path| path);
                    td { (naming::counted(samples, "sample")) " of " (source) }
                }
            }
            @for (name, value) in report.settings.rows(|path| path) {
                tr { th { (name) } td { code { (value) } } }
            }
            tr { th { "form" } td { (report.joint.form) ", " (report.joint.inputs) " inputs" } }
            tr { th { "runtime" } td { (report.runtime) } }
            tr { th { "tool" } td { (report.tool) } }
            @for stage in &report.seconds {
                tr { th { (stage.stage) } td { (seconds(stage.seconds)) } }
            }
        }
    }
}
