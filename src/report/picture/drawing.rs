//! The picture as SVG: a row per layer from the inputs down, shared weights in the middle, the tasks'
//! own in their lanes.

use maud::{Markup, html as page};

use super::{LayerBox, Link, Picture};
use crate::naming::sentence;
use crate::report::format::{count, percent, small};

/// Width of the picture, and of its column of names at most.
const WIDTH: f64 = 960.0;
const NAMES: f64 = 190.0;

/// Width of a letter of a name.
const LETTER: f64 = 6.8;

/// Pictures with more rows are drawn closer.
const MANY: usize = 40;

/// Colours of tasks; further tasks begin anew.
pub(crate) const COLOURS: usize = 6;

/// Positions on the page.
struct Layout<'a> {
    picture: &'a Picture,
    tasks: usize,
    /// Width of the column of names.
    names: f64,
    pitch: f64,
    height: f64,
    /// Width of the largest box.
    widest: f64,
    /// Parameters of the largest box.
    most: f64,
}

/// A box on the page.
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

/// The picture, for tasks of these names.
pub(crate) fn drawing(picture: &Picture, tasks: &[&str]) -> Markup {
    let rows = picture.rows();
    let (pitch, height) = if rows > MANY { (17.0, 9.0) } else { (32.0, 16.0) };
    let lanes = tasks.len().max(1) as f64;
    let most = picture.boxes.iter().map(|b| b.parameters).max().unwrap_or(1).max(1) as f64;
    let longest = picture.boxes.iter().flat_map(|b| b.layers.first()).map(|n| n.chars().count());
    let names = (longest.max().unwrap_or(0) as f64 * LETTER + 40.0).min(NAMES);
    let widest = (WIDTH - names) / lanes * 0.86;
    let layout = Layout { picture, tasks: tasks.len(), names, pitch, height, widest, most };
    let whole = layout.y(rows) + 22.0;
    page! {
        figure {
            (legend(tasks))
            svg.graph viewBox=(format!("0 0 {WIDTH} {whole:.0}")) role="img"
                aria-label="The layers of the joint model, coloured by the owners of their weights" {
                g.links { @for link in &picture.links { (layout.link(link)) } }
                g.ends { @for task in 0..tasks.len() { (layout.end(task, tasks, rows)) } }
                @for (at, drawn) in picture.boxes.iter().enumerate() {
                    (layout.drawn(at, drawn, tasks))
                }
                @for row in 0..rows { (layout.name(row)) }
            }
        }
    }
}

fn legend(tasks: &[&str]) -> Markup {
    page! {
        p.legend {
            span.swatch.shared {} "shared"
            @for (task, name) in tasks.iter().enumerate() {
                span class=(format!("swatch t{}", task % COLOURS)) {} (name) " only"
            }
            span.hint {
                "A box is as wide as the square root of its parameters. Point at it to see neurons, cost and error."
            }
        }
    }
}

impl Layout<'_> {
    fn y(&self, row: usize) -> f64 {
        8.0 + row as f64 * self.pitch
    }

    fn lane(&self, task: usize) -> f64 {
        let lanes = self.tasks.max(1) as f64;
        self.names + (WIDTH - self.names) * (task as f64 + 0.5) / lanes
    }

    fn place(&self, drawn: &LayerBox) -> Place {
        let part = (drawn.parameters as f64 / self.most).sqrt();
        let width = (self.widest * part).max(8.0);
        let middle = match drawn.tasks.as_slice() {
            [task] => self.lane(*task),
            tasks => tasks.iter().map(|t| self.lane(*t)).sum::<f64>() / tasks.len().max(1) as f64,
        };
        Place { x: middle, y: self.y(drawn.row), width }
    }

    fn drawn(&self, at: usize, drawn: &LayerBox, tasks: &[&str]) -> Markup {
        let Place { x, y, width } = self.place(drawn);
        // A box stands out against lines that pass behind it.
        page! {
            rect class=(format!("layer {}", owner(&drawn.tasks))) id=(format!("layer-{at}"))
                x=(format!("{:.1}", x - width / 2.0)) y=(format!("{y:.1}"))
                width=(format!("{width:.1}")) height=(self.height) rx="3" {
                title { (title(drawn, tasks)) }
            }
        }
    }

    /// The name of a row: that of its layer in the first net that has one.
    fn name(&self, row: usize) -> Markup {
        let first = self.picture.boxes.iter().find(|b| b.row == row);
        let name = first.and_then(|b| b.layers.first()).map_or("", String::as_str);
        let size = if self.height < 12.0 { "small" } else { "" };
        page! {
            text class=(format!("name {size}")) x=(self.names - 26.0)
                y=(format!("{:.1}", self.y(row) + self.height * 0.8)) { (shortened(name)) }
        }
    }

    /// The end of a task's net.
    fn end(&self, task: usize, tasks: &[&str], rows: usize) -> Markup {
        let (x, y) = (self.lane(task), self.y(rows));
        let mut last: Vec<usize> = (0..self.picture.boxes.len()).collect();
        let links = &self.picture.links;
        last.retain(|at| {
            let is_own = self.picture.boxes[*at].tasks.contains(&task);
            is_own && !links.iter().any(|l| l.from == *at && l.tasks.contains(&task))
        });
        let name = tasks.get(task).copied().unwrap_or_default();
        page! {
            @for at in last {
                @let from = self.place(&self.picture.boxes[at]);
                (curve((from.x, from.y + self.height), (x, y), 0.0, &[task]))
            }
            text class=(format!("end t{}", task % COLOURS)) x=(format!("{x:.1}"))
                y=(format!("{:.1}", y + 13.0)) { (shortened(name)) }
        }
    }

    fn link(&self, link: &Link) -> Markup {
        let boxes = &self.picture.boxes;
        let (from, to) = (&boxes[link.from], &boxes[link.to]);
        let (a, b) = (self.place(from), self.place(to));
        let rows = to.row.saturating_sub(from.row);
        // A line past other rows goes round their boxes.
        let round =
            if rows > 1 { a.width.max(b.width) / 2.0 + 8.0 * rows.min(9) as f64 } else { 0.0 };
        let side = if a.x.min(b.x) < self.names + (WIDTH - self.names) * 0.49 { -1.0 } else { 1.0 };
        curve((a.x, a.y + self.height), (b.x, b.y), side * round, &link.tasks)
    }
}

/// A line from the bottom of one box to the top of another one.
fn curve((x, y): (f64, f64), (to_x, to_y): (f64, f64), aside: f64, tasks: &[usize]) -> Markup {
    let (one, two) = (x + aside * 1.3, to_x + aside * 1.3);
    let bend = if aside == 0.0 { (to_y - y) / 2.0 } else { (to_y - y) * 0.2 };
    let path = format!(
        "M{x:.1} {y:.1}C{one:.1} {:.1} {two:.1} {:.1} {to_x:.1} {to_y:.1}",
        y + bend,
        to_y - bend
    );
    page! { path class=(owner(tasks)) d=(path) {} }
}

/// The CSS class of a set of owners.
fn owner(tasks: &[usize]) -> String {
    match tasks {
        [task] => format!("t{}", task % COLOURS),
        _ => "shared".to_owned(),
    }
}

fn title(drawn: &LayerBox, tasks: &[&str]) -> String {
    let name = |task: &usize| tasks.get(*task).copied().unwrap_or("?").to_owned();
    let owners: Vec<String> = drawn.tasks.iter().map(name).collect();
    let mut layers = drawn.layers.clone();
    layers.dedup();
    let mut lines = vec![
        layers.join(" | "),
        match owners.as_slice() {
            [one] => format!("weights of {one} only"),
            all => format!("shared by {}", all.join(" and ")),
        },
        format!("{} neurons, {} inputs", count(drawn.neurons as u64), count(drawn.inputs as u64)),
        format!("{} parameters", count(drawn.parameters)),
    ];
    lines.extend(drawn.cost.map(|cost| format!("predicted cost {}", small(cost))));
    if !drawn.errors.is_empty() {
        let errors: Vec<String> = drawn.errors.iter().map(|e| percent(*e)).collect();
        lines.push(format!("error {}", errors.join(" | ")));
    }
    lines.iter().map(|line| sentence(line).into_owned()).collect::<Vec<_>>().join("\n")
}

/// A name that fits into its column. The end is kept, since it says more than the beginning.
fn shortened(name: &str) -> String {
    const MOST: usize = 24;
    let length = name.chars().count();
    match length > MOST {
        true => format!("…{}", name.chars().skip(length - MOST + 1).collect::<String>()),
        false => name.to_owned(),
    }
}
