//! Findings about groups before the main pass.

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;

use crate::align::{TaskChannel, TaskLayer};
use crate::mtz::joint::JointModel;
use crate::mtz::site::{HeadCosts, SettledGroups};

/// Findings about groups before the main pass.
pub(in crate::mtz::driver) struct Outlook {
    /// The nets, with the groups that are settled already.
    pub(in crate::mtz::driver) joint: JointModel,
    pub(in crate::mtz::driver) settled: SettledGroups,
    pub(in crate::mtz::driver) later: LaterCosts,
}

/// Costs of pairs at later layers of groups, by the layer at which a task joins others.
#[derive(Default)]
pub(in crate::mtz::driver) struct LaterCosts(BTreeMap<TaskLayer, GroupCosts>);

/// Costs at the later layers of a group when a task joins others at its first layer.
pub(in crate::mtz::driver) struct GroupCosts {
    /// The row of each channel of the others.
    pub(in crate::mtz::driver) neurons: HashMap<TaskChannel, usize>,
    /// Neurons × channels of the task.
    pub(in crate::mtz::driver) cost: Array2<f64>,
    /// The cost of pairs of attention heads in other groups with the same heads.
    pub(in crate::mtz::driver) heads: HeadCosts,
    /// The cost of each pair at all layers, in the same unit for all groups.
    pub(in crate::mtz::driver) pair_costs: Vec<f64>,
}

impl LaterCosts {
    /// Costs at later layers when a task joins others at `layer`.
    pub(in crate::mtz::driver) fn at(&self, layer: TaskLayer) -> Option<&GroupCosts> {
        self.0.get(&layer)
    }

    /// Whether pairs cost anything at later layers.
    pub(in crate::mtz::driver) fn cost_anything(&self, layer: TaskLayer) -> bool {
        self.at(layer).is_some_and(|later| later.cost.iter().any(|cost| *cost != 0.0))
    }

    /// Costs of pairs fixed before the main pass.
    pub(in crate::mtz::driver) fn pair_costs(&self, layer: TaskLayer) -> Vec<f64> {
        self.at(layer).map(|later| later.pair_costs.clone()).unwrap_or_default()
    }

    pub(in crate::mtz::driver) fn insert(&mut self, layer: TaskLayer, costs: GroupCosts) {
        self.0.insert(layer, costs);
    }
}
