//! What a merge has decided layer by layer, so that another one can repeat it.

use std::collections::BTreeSet;

use crate::align::TaskLayer;
use crate::error::Result;
use crate::mtz::matching::Share;
use crate::mtz::options::Budget;

use super::Prepared;

/// What is decided about layers, beside what the options say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decisions {
    /// Places of sites, in the order of the alignment, whose layers keep their weights.
    pub own: BTreeSet<usize>,
    /// How many neurons layers share, by their names in the first net.
    pub shares: Vec<(String, Share)>,
}

/// Corresponding layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteNames {
    /// Its place in the order of the alignment.
    pub place: usize,
    /// The layer's name in each net that has one.
    pub layers: Vec<Option<String>>,
}

impl SiteNames {
    /// The name by which a budget knows the layers.
    pub fn first(&self) -> &str {
        self.layers.iter().flatten().next().map_or("", String::as_str)
    }
}

impl Prepared {
    /// The layers that several nets have, in the order in which they are merged.
    pub fn sites(&self) -> Vec<SiteNames> {
        let name = |own: TaskLayer| self.joint.layer(own).name.clone();
        let sites = self.alignment.sites.iter().enumerate().filter(|(_, site)| site.is_common());
        let names = |(place, site): (usize, &crate::align::Site)| {
            let member = |task| {
                let layer = site.layer_of(task)?;
                Some(name(TaskLayer { task, layer }))
            };
            SiteNames { place, layers: self.joint.task_ids().map(member).collect() }
        };
        sites.map(names).collect()
    }

    /// Decides about layers before they are merged.
    ///
    /// # Errors
    /// As [`Budget::layer`].
    pub fn decide(&mut self, decisions: &Decisions, budget: &mut Budget) -> Result<()> {
        self.alignment.keep_weights(&decisions.own);
        decisions.shares.iter().try_for_each(|(name, share)| budget.layer(name, *share))
    }
}
