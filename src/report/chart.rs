//! A chart of points: loss over size.

use maud::{Markup, html as page};

/// Size of the chart, and of the space for its axes.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 78.0;
const BOTTOM: f64 = 44.0;
const SPACE: f64 = 16.0;
/// Half the width of the last mark's text.
const RIGHT: f64 = 30.0;

/// Marks on an axis, about.
const MARKS: f64 = 5.0;

/// A line through points.
pub(super) struct Series {
    /// Its label.
    pub(super) name: String,
    /// The class of its colour.
    pub(super) class: String,
    pub(super) points: Vec<Spot>,
}

/// A point of a line.
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Its tooltip.
    pub(super) title: String,
    /// Whether it is highlighted.
    pub(super) marked: bool,
}

/// An axis: its range, the distance of its marks, and how numbers are written.
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
    text: fn(f64) -> String,
}

impl Axis {
    /// An axis that holds all `values`, with marks at round numbers.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone, text: fn(f64) -> String) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let range = if high > low { high - low } else { high.abs().max(1e-3) };
        let rough = range / MARKS;
        let unit = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * unit).find(|s| *s >= rough);
        let step = step.unwrap_or(unit);
        let high = (high / step).ceil() * step;
        let low = (low / step).floor() * step;
        Axis { low, high: if high > low { high } else { low + step }, step, text }
    }

    fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn marks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count.min(20)).map(|n| self.low + n as f64 * self.step).collect()
    }
}

/// Draws lines over two axes.
pub(super) fn chart(series: &[Series], axes: (&Axis, &Axis), names: (&str, &str)) -> Markup {
    let (across, up) = axes;
    let x = |value: f64| LEFT + across.part(value) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - up.part(value) * (HEIGHT - BOTTOM - SPACE);
    let at = |n: f64| format!("{n:.1}");
    let line = |s: &Series| {
        let points = s.points.iter().map(|p| format!("{:.1},{:.1}", x(p.x), y(p.y)));
        points.collect::<Vec<_>>().join(" ")
    };
    page! {
        figure {
            p.legend {
                @for s in series { span class=(format!("swatch {}", s.class)) {} (s.name) }
            }
            svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
                aria-label=(format!("{} against {}", names.1, names.0)) {
                @for mark in up.marks() {
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(y(mark))) y2=(at(y(mark))) {}
                    text.mark.up x=(LEFT - 8.0) y=(at(y(mark) + 4.0)) { ((up.text)(mark)) }
                }
                @for mark in across.marks() {
                    line.tick x1=(at(x(mark))) x2=(at(x(mark))) y1=(HEIGHT - BOTTOM)
                        y2=(HEIGHT - BOTTOM + 5.0) {}
                    text.mark x=(at(x(mark))) y=(HEIGHT - BOTTOM + 19.0) { ((across.text)(mark)) }
                }
                text.axis x=(at((LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 5.0) { (names.0) }
                text.axis transform=(format!("translate(13 {:.0}) rotate(-90)", (HEIGHT - BOTTOM) / 2.0)) {
                    (names.1)
                }
                @for s in series {
                    polyline class=(s.class) points=(line(s)) {}
                    @for spot in &s.points {
                        @if spot.marked {
                            circle class=(format!("ring {}", s.class)) cx=(at(x(spot.x)))
                                cy=(at(y(spot.y))) r="8" {}
                        }
                        circle class=(s.class) cx=(at(x(spot.x))) cy=(at(y(spot.y))) r="4" {
                            title { (spot.title) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_values_and_have_round_marks() {
        let text = |n: f64| format!("{n:.2}");
        let axis = Axis::of([0.513, 0.987].into_iter(), text);
        assert!(axis.low <= 0.513 && axis.high >= 0.987);
        let marks: Vec<String> = axis.marks().into_iter().map(axis.text).collect();
        assert_eq!(marks, ["0.50", "0.60", "0.70", "0.80", "0.90", "1.00"]);
        for values in [vec![], vec![0.0], vec![5.0, 5.0], vec![-1.0, 1e9]] {
            let axis = Axis::of(values.iter().copied(), text);
            assert!(axis.high > axis.low && axis.marks().len() > 1);
            assert!(values.iter().all(|v| (0.0..=1.0).contains(&axis.part(*v))), "{values:?}");
        }
    }
}
