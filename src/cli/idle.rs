//! Options of a merge that were typed and do nothing.

use super::console::Console;
use crate::error::Hint;
use crate::progress::Progress;
use crate::zipper::PlanFile;

/// Warns of a wish for a pass per layer that statistics in files cannot meet. `stored` tells whether there are
/// any.
pub(super) fn warn_of_passes(typed: &PlanFile, stored: bool, console: &Console) {
    if let Some(remark) = passes(typed, stored) {
        console.warn(&console.worded(&remark));
    }
}

/// Notes which of these options, each with whether it was typed, a dry run leaves alone.
pub(super) fn note_dry_run(options: &[(&'static str, bool)], console: &Console) {
    if let Some(remark) = dry_run(options) {
        console.note(&console.worded(&remark));
    }
}

fn passes(typed: &PlanFile, stored: bool) -> Option<Hint> {
    let value = typed.options.get("passes")?.last()?;
    (stored && value != "one").then(|| {
        let remark = Hint::from("").option_as("passes", value).then(" does nothing beside ");
        remark.option("gram").then(", which takes one pass")
    })
}

fn dry_run(options: &[(&'static str, bool)]) -> Option<Hint> {
    let mut typed = options.iter().filter(|(_, typed)| *typed).map(|(name, _)| *name);
    let first = Hint::from("a dry run reads no samples and writes no files: it leaves alone ")
        .option(typed.next()?);
    Some(typed.fold(first, |remark, name| remark.then(", ").option(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_that_stored_statistics_do_not_take_are_told() {
        let typed = |value: &str| PlanFile {
            options: [("passes".to_owned(), vec![value.to_owned()])].into_iter().collect(),
            ..PlanFile::default()
        };
        let said = passes(&typed("per-layer"), true).map(|remark| remark.in_flags());
        assert!(said.is_some_and(|said| said.starts_with("--passes per-layer does nothing")));
        assert!(passes(&typed("one"), true).is_none());
        assert!(passes(&typed("per-layer"), false).is_none());
        assert!(passes(&PlanFile::default(), true).is_none());
    }

    #[test]
    fn a_dry_run_tells_what_it_leaves_alone() {
        assert!(dry_run(&[("data", false), ("report", false)]).is_none());
        let said = dry_run(&[("data", true), ("report", false), ("save-plan", true)]).unwrap();
        assert!(said.in_flags().ends_with("it leaves alone --data, --save-plan"));
    }
}
