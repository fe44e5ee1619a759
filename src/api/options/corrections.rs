//! Corrections of common weights.

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
        "A scale per channel of convolutions and Gemm, as a BatchNorm per task",
    ),
    (
        "low-rank",
        Corrections::LowRank,
        "The scale, and a product of low rank beside the common weights; the rank is chosen by its gain",
    ),
];
