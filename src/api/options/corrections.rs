//! Corrections of common weights.

#[cfg(feature = "cli")]
use crate::mtz::options::Bits;

/// Corrections of shared weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrections {
    /// A scale of each channel behind common weights.
    Scale,
    /// A scale, and two thin products beside the common one.
    LowRank,
}

#[cfg(feature = "cli")]
pub(super) const DELTAS: [(&str, Bits, &str); 2] = [
    ("int8", Bits::Eight, "8 bits: a quarter of the size of weights per task"),
    ("int4", Bits::Four, "4 bits: an eighth of that size; the joint model uses operator set 21"),
];

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
