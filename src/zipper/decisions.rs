//! Decisions of a merge about each layer, for repeating the merge.

use std::collections::BTreeSet;

use crate::align::TaskLayer;
use crate::error::Result;
use crate::mtz::matching::Share;
use crate::mtz::options::{Budget, MergeOptions, Ranks};
use crate::mtz::site::unshareable;

use super::Prepared;

/// Decisions about layers, in addition to the options.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decisions {
    /// Places of sites, in the order of the alignment, whose layers keep their weights.
    pub own: BTreeSet<usize>,
    /// Shares of layers, by their names in the first net.
    pub shares: Vec<(String, Share)>,
    /// Ranks of the tasks' corrections.
    pub ranks: Ranks,
}

/// Corresponding layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteNames {
    /// Its place in the order of the alignment.
    pub place: usize,
    /// The layer's name in each net that has one.
    pub layers: Vec<Option<String>>,
    /// The layers themselves, in the order of their nets.
    pub members: Vec<TaskLayer>,
    /// The reason why they can never share neurons, if so.
    pub unshareable: Option<String>,
}

impl SiteNames {
    /// The name of the layers that budgets match.
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
            let layers = self.joint.task_ids().map(member).collect();
            let unshareable = unshareable(&self.joint, &self.alignment, site);
            SiteNames { place, layers, members: site.members().collect(), unshareable }
        };
        sites.map(names).collect()
    }

    /// Applies decisions to alignment and options. Without corrections in `options`, ranks have no
    /// effect.
    ///
    /// # Errors
    /// As [`crate::mtz::options::Budget::layer`].
    pub fn decide(&mut self, decisions: &Decisions, options: &mut MergeOptions) -> Result<()> {
        options.budget = self.budget_of(Some(decisions), options.budget.clone())?;
        options.corrections = options.corrections.take().map(|_| decisions.ranks.clone());
        Ok(())
    }

    /// Applies decisions to the alignment, and returns a budget with their shares.
    ///
    /// # Errors
    /// As [`Budget::layer`].
    pub fn budget_of(
        &mut self,
        decisions: Option<&Decisions>,
        mut budget: Budget,
    ) -> Result<Budget> {
        if let Some(decisions) = decisions {
            self.alignment.keep_weights(&decisions.own);
            let mut shares = decisions.shares.iter();
            shares.try_for_each(|(name, share)| budget.layer(name, *share))?;
        }
        Ok(budget)
    }
}
