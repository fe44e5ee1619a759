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
        "A scale of each channel of convolutions and Gemm, as BatchNorm that each task keeps",
    ),
    (
        "low-rank",
        Corrections::LowRank,
        "The scale, and two thin products beside the common one, of as low a rank as pays",
    ),
];
