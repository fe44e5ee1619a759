//! Aligned columns.

use crate::naming::shown;
use comfy_table::{Cell, CellAlignment, ContentArrangement};

/// A table without borders.
pub(super) struct Table {
    columns: Vec<Align>,
    table: comfy_table::Table,
}

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

pub(super) use Align::{Left, Right};

impl Table {
    /// A table with these column headers, each with the alignment of its column.
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let columns: Vec<(&str, Align)> = columns.into_iter().collect();
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        let aligns: Vec<Align> = columns.iter().map(|(_, align)| *align).collect();
        let headers = columns.iter().map(|(header, _)| (*header).to_owned());
        table.set_header(cells(&aligns, headers.collect()));
        Table { columns: aligns, table }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, texts: impl Into<Vec<String>>) {
        self.table.add_row(cells(&self.columns, texts.into()));
    }

    /// The lines, each indented by two spaces.
    pub(super) fn render(mut self) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines = self.table.lines().map(|line| format!("  {}\n", line.trim_end()));
        lines.collect()
    }
}

fn cells(aligns: &[Align], texts: Vec<String>) -> Vec<Cell> {
    let cell = |(text, align): (String, &Align)| {
        let alignment = match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        };
        Cell::new(shown(&text)).set_alignment(alignment)
    };
    texts.into_iter().zip(aligns).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new([("layer", Left), ("shared", Right), ("why", Left)]);
        table.row(["fc1".into(), "300".into(), String::new()]);
        table.row(["größer".into(), "7".into(), "an output".into()]);
        let expected = "  layer   shared  why\n  fc1        300\n  größer       7  an output\n";
        assert_eq!(table.render(), expected);
    }
}
