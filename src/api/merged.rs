//! The result of a merge.

use crate::report::Report;

/// The result of a merge.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Merged {
    /// The report.
    pub report: Report,
    /// Whether the joint model passed its verification.
    pub passed: bool,
    /// Requirements that the joint model does not meet, as a sentence.
    pub unmet: Option<String>,
    /// The respects in which the joint model is worse than its originals, as a sentence.
    pub worse: Option<String>,
}
