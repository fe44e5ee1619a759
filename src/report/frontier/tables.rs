//! The curve as text, CSV and Markdown.

use std::fmt::Write;

use super::Frontier;
use crate::naming::{is_active, lines, shown};
use crate::report::format::{bytes, count, error, seconds};
use crate::report::table::{Left, Right, Table};

impl Frontier {
    /// The curve as text.
    pub fn text(&self) -> String {
        let measure = self.measure();
        let names: Vec<String> = self
            .tasks
            .iter()
            .map(|t| format!("{} {}", shown(&t.name), measure_head(self)))
            .collect();
        let latency = self.has_latency();
        let mut columns =
            vec![("point", Right), ("parameters", Right), ("size", Right), ("file", Right)];
        columns.extend(names.iter().map(|name| (name.as_str(), Right)));
        columns.extend(latency.then_some(("latency", Right)));
        columns.extend([("own layers", Right), ("", Left)]);
        let mut table = Table::new(columns);
        for (at, point) in (1..).zip(&self.points) {
            let mut row = vec![at.to_string()];
            row.extend([count(point.parameters), self.percent(point.size), bytes(point.bytes)]);
            row.extend(point.tasks.iter().map(|t| measure.of(t).map_or("–".into(), error)));
            row.extend(latency.then(|| point.ratio()));
            row.push(point.own.len().to_string());
            row.push(if point.knee { "◀ knee".to_owned() } else { String::new() });
            table.row(row);
        }
        let mut row = vec![String::new(), count(self.tasks.iter().map(|t| t.parameters).sum())];
        row.extend([self.percent(1.0), bytes(self.tasks.iter().map(|t| t.bytes).sum())]);
        row.extend(self.tasks.iter().map(|t| measure.of(&t.original).map_or("–".into(), error)));
        row.extend(latency.then(|| "1.00".to_owned()));
        row.extend([String::new(), "originals".to_owned()]);
        table.row(row);
        let mut out = table.render();
        let (samples, time) = (self.samples(), seconds(self.seconds));
        let _ = writeln!(out, "{samples}; {time} with {}", self.runtime);
        lines(&out).into_owned()
    }

    /// The curve as comma-separated values: a row per merge.
    pub fn csv(&self) -> String {
        let mut head: Vec<String> =
            ["point", "size", "parameters", "bytes"].map(str::to_owned).into();
        for task in &self.tasks {
            let of = |what: &str| field(&format!("{} {what}", task.name));
            head.extend(["error", "agreement", "deviation"].map(of));
        }
        head.extend(
            ["loss", "seconds", "seconds_originals", "own_layers", "knee"].map(str::to_owned),
        );
        let mut out = format!("{}\n", head.join(","));
        let number = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
        for (at, point) in (1..).zip(&self.points) {
            let mut row: Vec<String> = vec![at.to_string(), point.size.to_string()];
            row.extend([point.parameters.to_string(), point.bytes.to_string()]);
            for task in &point.tasks {
                row.extend([
                    number(task.error),
                    number(task.agreement),
                    task.deviation.to_string(),
                ]);
            }
            row.extend([point.loss.to_string(), number(point.latency.map(|l| l.0))]);
            row.extend([number(point.latency.map(|l| l.1)), field(&point.own.join(" "))]);
            row.push(point.knee.to_string());
            let _ = writeln!(out, "{}", row.join(","));
        }
        out
    }

    /// The curve as a table in Markdown.
    pub fn markdown(&self) -> String {
        let measure = self.measure();
        let names: Vec<&str> = self.tasks.iter().map(|t| t.name.as_str()).collect();
        let mut out =
            format!("# Size against loss: {}\n\n", super::super::card::plain(&names.join(" + ")));
        let latency = self.has_latency();
        let mut heads: Vec<String> = names
            .iter()
            .map(|name| format!("{}, {}", super::super::card::plain(name), measure.name()))
            .collect();
        heads.extend(latency.then(|| "latency".to_owned()));
        heads.push("layers with weights of their own".to_owned());
        let _ = writeln!(out, "| size | parameters | file | {} | |", heads.join(" | "));
        let _ = writeln!(out, "|{}", "---|".repeat(heads.len() + 4));
        for point in &self.points {
            let mut losses: Vec<String> =
                point.tasks.iter().map(|t| measure.of(t).map_or("–".into(), error)).collect();
            losses.extend(latency.then(|| point.ratio()));
            losses.push(super::super::card::plain(&point.own.join(", ")));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                self.percent(point.size),
                count(point.parameters),
                bytes(point.bytes),
                losses.join(" | "),
                if point.knee { "knee" } else { "" }
            );
        }
        let mut before: Vec<String> =
            self.tasks.iter().map(|t| measure.of(&t.original).map_or("–".into(), error)).collect();
        before.extend(latency.then(|| "1.00".to_owned()));
        before.push(String::new());
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | originals |",
            self.percent(1.0),
            count(self.tasks.iter().map(|t| t.parameters).sum()),
            bytes(self.tasks.iter().map(|t| t.bytes).sum()),
            before.join(" | ")
        );
        let _ = writeln!(out, "\nMeasured on {}.", self.samples());
        if latency {
            let _ = writeln!(out, "Latency is relative to that of all originals.");
        }
        let _ = writeln!(out, "Made by {} with {}.", self.tool, self.runtime);
        out
    }
}

/// The suffix of a task's name in the header of its column.
fn measure_head(curve: &Frontier) -> &'static str {
    match curve.measure() {
        super::Measure::Error => "error",
        super::Measure::Disagreement => "differs",
        super::Measure::Deviation => "deviation",
    }
}

/// Escapes a field of comma-separated values. Names come from files and must not become formulas in a
/// spreadsheet.
fn field(text: &str) -> String {
    let text = text.replace(is_active, " ");
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text };
    match text.contains([',', '"', ' ']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_table_keep_their_line_and_direction() {
        assert_eq!(field("a\u{202e}b\n\u{2066}c"), "\"a b  c\"");
        assert_eq!(field("=1"), "'=1");
        assert_eq!(field("plain"), "plain");
    }
}
