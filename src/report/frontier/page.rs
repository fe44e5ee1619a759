//! The curve as one self-contained web page.

use maud::{Markup, html as page};

use super::{Frontier, FrontierRecord, Measure};
use crate::naming::counted;
use crate::report::chart::{Axis, Series, Spot, chart};
use crate::report::format::{bytes, count, error, seconds, small};
use crate::report::html::whole;
use crate::report::picture::{COLOURS, drawing};

impl Frontier {
    /// The curve as a self-contained page.
    pub fn html(&self) -> String {
        let names: Vec<&str> = self.tasks.iter().map(|t| t.name.as_str()).collect();
        let knee = self.points.iter().find(|p| p.knee);
        let body = page! {
            h1 { (names.join(" + ")) }
            (summary(self, knee))
            h2 { "Size against loss" }
            (curve(self))
            (table(self))
            @if let Some(knee) = knee {
                h2 { "The joint graph at the knee" }
                (drawing(&knee.picture, &names))
            }
            h2 { "Plans" }
            p {
                "Each point is a plan. Save it to a file in the folder that its paths are relative to, and run "
                code { "onnx-zip merge --plan FILE -o joint.onnx" } "."
            }
            @for (at, point) in (1..).zip(&self.points) {
                details id=(format!("plan-{at}")) {
                    summary { "Point " (at) ": " (self.percent(point.size)) @if point.knee { " (knee)" } }
                    pre { (point.plan) }
                }
            }
            p.made {
                "Measured on " (self.samples()) ". Made by " (self.tool) " with " (self.runtime) " in "
                (seconds(self.seconds)) "."
            }
        };
        whole(&format!("{} – frontier", names.join(" + ")), &body)
    }
}

fn summary(curve: &Frontier, knee: Option<&FrontierRecord>) -> Markup {
    let Some(knee) = knee else { return page! {} };
    let measure = curve.measure();
    page! {
        p.summary {
            (counted(curve.points.len(), "joint model")) ", from " (curve.percent(curve.points.first().map_or(1.0, |p| p.size)))
            " of all models' parameters on. The knee is at " strong { (curve.percent(knee.size)) } "."
        }
        div.cards {
            div.card { span.figure { (curve.percent(knee.size)) } span { "of the parameters, at the knee" } }
            div.card { span.figure { (bytes(knee.bytes)) } span { "file" } }
            @for (task, (before, after)) in curve.tasks.iter().zip(
                curve.tasks.iter().map(|t| measure.of(&t.original)).zip(knee.tasks.iter().map(|t| measure.of(t)))) {
                div.card {
                    span.figure {
                        @if measure == Measure::Error { (before.map_or("–".into(), error)) " → " }
                        (after.map_or("–".into(), error))
                    }
                    span { (measure.name()) " of " (task.name) }
                }
            }
            @if let Some((joint, originals)) = knee.latency {
                div.card { span.figure { (small(joint / originals)) " ×" } span { "latency of all originals" } }
            }
        }
    }
}

/// The curve, a line per task; the knee is marked.
fn curve(curve: &Frontier) -> Markup {
    let measure = curve.measure();
    let spot = |point: &FrontierRecord, task: usize| {
        let y = point.tasks.get(task).and_then(|t| measure.of(t))?;
        let name = curve.tasks.get(task).map_or("", |t| t.name.as_str());
        let title = format!(
            "{}: {} {} at {} of all parameters, {}",
            name,
            measure.name(),
            error(y),
            curve.percent(point.size),
            bytes(point.bytes)
        );
        Some(Spot { x: point.size, y, title, marked: point.knee })
    };
    let series = |(task, of): (usize, &super::FrontierTask)| {
        let mut points: Vec<Spot> = curve.points.iter().filter_map(|p| spot(p, task)).collect();
        let before = measure.of(&of.original);
        points.extend(before.map(|y| Spot {
            x: 1.0,
            y,
            title: format!("{}: the original, {} {}", of.name, measure.name(), error(y)),
            marked: false,
        }));
        Series { name: of.name.clone(), class: format!("t{}", task % COLOURS), points }
    };
    let all: Vec<Series> = curve.tasks.iter().enumerate().map(series).collect();
    let spots = || all.iter().flat_map(|s| &s.points);
    let across = Axis::of(spots().map(|s| s.x), |x| format!("{:.0} %", 100.0 * x));
    let up = Axis::of(spots().map(|s| s.y).chain([0.0]), |y| format!("{} %", small(100.0 * y)));
    chart(&all, (&across, &up), ("parameters, of all models together", measure.name()))
}

fn table(curve: &Frontier) -> Markup {
    let measure = curve.measure();
    let latency = curve.has_latency();
    page! {
        table {
            tr {
                th.number { "size" } th.number { "parameters" } th.number { "file" }
                @for task in &curve.tasks { th.number { (task.name) ", " (measure.name()) } }
                @if latency { th.number { "latency" } }
                th { "layers with weights of their own" }
            }
            @for point in &curve.points {
                tr.knee[point.knee] {
                    td.number { (curve.percent(point.size)) } td.number { (count(point.parameters)) }
                    td.number { (bytes(point.bytes)) }
                    @for task in &point.tasks { td.number { (measure.of(task).map_or("–".into(), error)) } }
                    @if latency {
                        td.number { (point.ratio()) }
                    }
                    td.reason { (point.own.join(", ")) @if point.knee { span.badge { "knee" } } }
                }
            }
            tr {
                td.number { (curve.percent(1.0)) }
                td.number { (count(curve.tasks.iter().map(|t| t.parameters).sum())) }
                td.number { (bytes(curve.tasks.iter().map(|t| t.bytes).sum())) }
                @for task in &curve.tasks {
                    td.number { (measure.of(&task.original).map_or("–".into(), error)) }
                }
                @if latency { td.number { "1.00" } }
                td.reason { "the originals" }
            }
        }
    }
}
