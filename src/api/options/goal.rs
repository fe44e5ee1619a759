//! The goal of a merge.

#[cfg(feature = "cli")]
use super::keep_shared::{cost, fraction};
use crate::zipper::Goal;

/// The goal of a merge, which decides how much to share.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Sharing"))]
#[non_exhaustive]
pub struct GoalOptions {
    /// Merge to this part of all models' parameters with the least predicted loss: 0.6 or 60%
    ///
    /// Merges once with all layers shared, to measure the cost of each, then up to three times
    /// without the layers that cost most for their saving. Keeps the result closest to the originals.
    #[cfg_attr(feature = "cli", arg(long, value_name = "F", value_parser = fraction, conflicts_with_all = ["share", "max_cost"]))]
    pub target_size: Option<f64>,
    /// Share as much as possible while no task's error rises by more than this, in percentage points
    ///
    /// Needs labelled samples (--data). Measures on samples that were not used for calibration, if
    /// there are any. Merges up to eight times, or fourteen with --unit mixed.
    #[cfg_attr(feature = "cli", arg(long, value_name = "PT", value_parser = cost,
          conflicts_with_all = ["share", "max_cost", "target_size"]))]
    pub max_drop: Option<f64>,
}

impl GoalOptions {
    /// The goal, if there is one.
    pub(crate) fn goal(&self) -> Option<Goal> {
        let drop = self.max_drop.map(|points| Goal::Drop(points / 100.0));
        self.target_size.map(Goal::Size).or(drop)
    }

    /// The goal as typed, with the name of its option.
    pub(crate) fn text(&self) -> Option<String> {
        let size = self.target_size.map(|part| format!("target-size {part:?}"));
        size.or_else(|| self.max_drop.map(|points| format!("max-drop {points:?}")))
    }

    /// Whether errors are measured on labelled samples.
    pub(crate) fn measures(&self) -> bool {
        self.max_drop.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_written_as_typed() {
        let size = GoalOptions { target_size: Some(0.6), ..GoalOptions::default() };
        assert_eq!(size.text().as_deref(), Some("target-size 0.6"));
        let drop = GoalOptions { max_drop: Some(0.5), ..GoalOptions::default() };
        assert_eq!(drop.text().as_deref(), Some("max-drop 0.5"));
        assert_eq!(GoalOptions::default().text(), None);
    }
}
