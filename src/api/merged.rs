//! The result of a merge.

use crate::report::Report;

/// What came of a merge.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Merged {
    /// Everything about the merge.
    pub report: Report,
    /// Whether the joint model passed its verification.
    pub passed: bool,
    /// What was required of the joint model and is not so, as a sentence.
    pub unmet: Option<String>,
    /// In what the joint model is worse than its originals, as a sentence.
    pub worse: Option<String>,
}
