//! The result of a merge.

use crate::error::Hint;
use crate::report::Report;

/// The result of a merge.
///
/// ```
/// use onnx_zip::{MergeOptions, Merger, Silent};
///
/// let mut options = MergeOptions::default();
/// options.sharing.share = Some(0.0);
/// let joint = Merger::new(options)
///     .model("fixtures/models/lenet300_mnist_a.onnx")
///     .model("fixtures/models/lenet300_fashion.onnx")
///     .merge(&Silent)?;
/// let merged = joint.outcome().expect("this model was just merged");
/// assert!(merged.passed && merged.report.compression.parameters_of_all == 1.0);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Merged {
    /// The report.
    pub report: Report,
    /// Whether the joint model passed its verification.
    pub passed: bool,
    /// Requirements that the joint model does not meet, as a sentence.
    pub unmet: Option<Hint>,
    /// The respects in which the joint model is worse than its originals, and an option that helps.
    pub worse: Option<Hint>,
}
