//! Inputs of an outlook.

use crate::align::{Alignment, TaskGroup};
use crate::mtz::driver::pairing::PairChoice;
use crate::mtz::joint::JointModel;
use crate::mtz::options::MergeOptions;
use crate::mtz::plan::Producers;
use crate::mtz::site::SettledGroups;
use crate::mtz::statistics::{LayerStatistics, Originals, Weighting};
use crate::progress::Progress;

/// The state of a walk before its first step, which an outlook does not change.
#[derive(Clone, Copy)]
pub(in crate::mtz::driver) struct View<'a, 'd> {
    pub(in crate::mtz::driver) joint: &'a JointModel,
    pub(in crate::mtz::driver) alignment: &'a Alignment,
    pub(in crate::mtz::driver) options: &'a MergeOptions,
    pub(in crate::mtz::driver) choice: &'a PairChoice<'d>,
    pub(in crate::mtz::driver) weighting: Weighting<'d>,
    pub(in crate::mtz::driver) statistics: &'a LayerStatistics<'d>,
    pub(in crate::mtz::driver) originals: Option<&'a Originals>,
    pub(in crate::mtz::driver) producers: &'a Producers,
    pub(in crate::mtz::driver) settled: &'a SettledGroups,
    pub(in crate::mtz::driver) progress: &'a dyn Progress,
}

/// A correspondence and its producing sites.
pub(super) struct CorrespondingGroups {
    /// The group of each task that has one.
    pub(super) groups: Vec<TaskGroup>,
    /// Places in the alignment's sites.
    pub(super) sites: Vec<usize>,
    /// Whether the first of them reads channels that it produces.
    pub(super) is_recurrent: bool,
    /// The site that reads its channels before any site pairs them, if one does.
    pub(super) consumer: Option<usize>,
}
