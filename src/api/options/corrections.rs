//! Corrections of common weights.

use super::ShareOptions;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::options::{MergeOptions, Ranks, Unit};

/// Corrections of shared weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrections {
    /// A scale of each channel behind common weights.
    Scale,
    /// A scale, and two thin products beside the common one.
    LowRank,
}

#[cfg(feature = "cli")]
pub(super) const CORRECTIONS: [(&str, Corrections, &str); 2] = [
    (
        "scale",
        Corrections::Scale,
        "A scale of each channel of convolutions and Gemm, as BatchNorm that each task keeps",
    ),
    (
        "low-rank",
        Corrections::LowRank,
        "The scale, and two thin products beside the common one, of as low a rank as pays",
    ),
];

impl ShareOptions {
    /// Puts the corrections that are asked for into the options of a merge.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where there can be none, or no size decides about ranks.
    pub(crate) fn correct(
        &self,
        paper: bool,
        has_goal: bool,
        stays: bool,
        options: &mut MergeOptions,
    ) -> Result<()> {
        let Some(corrections) = self.corrections else { return Ok(()) };
        let usage =
            |message: &str, hint: Hint| Err(Error::new(ErrorKind::Usage, message).hint(hint));
        if self.unit(paper) != Unit::Layer || !stays {
            let message = "corrections are those of whole layers whose weights stay";
            let hint = Hint::from("use ").option_as("unit", "layer").then(" and ");
            return usage(message, hint.option_as("retrain", "end"));
        }
        if corrections == Corrections::LowRank && !has_goal {
            let message = "no size tells how large corrections of low rank may be";
            return usage(message, Hint::from("give a size: ").option("target-size"));
        }
        options.corrections = Some(Ranks::new());
        options.choose_ranks = corrections == Corrections::LowRank;
        Ok(())
    }
}
