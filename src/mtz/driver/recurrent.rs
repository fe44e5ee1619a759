//! Hidden units of recurrent layers.
//!
//! A recurrent layer reads what it makes: which of its inputs are shared depends on its own pairs. So
//! these are found before the walk through the layers, when all groups are paired again and again: the
//! units that were paired in one round are shared inputs in the next. They stay as they are then, and
//! the walk gives them their common weights, gate by gate. As every gate moves the units that all of them
//! read, it goes through them again.

use ndarray::Array2;

use crate::align::Site;
use crate::error::Result;
use crate::mtz::site::{SiteLayer, SiteRecord, SiteSelection};
use crate::ops::LayerKind;

use super::Driver;
use super::groups::CorrespondingGroups;

/// How often the gates of a recurrent layer are gone through again.
const ROUNDS: usize = 2;

impl Driver<'_> {
    /// Keeps the pairs of a correspondence as they were found, if its layers have any other input in common.
    pub(super) fn settle_recurrent(&mut self, correspondence: &CorrespondingGroups) -> Result<()> {
        let neurons = self.joint.neurons_of(&correspondence.groups);
        let open: Vec<_> = correspondence
            .groups
            .iter()
            .filter(|g| !self.settled.is_settled(**g))
            .copied()
            .collect();
        open.iter().for_each(|(task, group)| self.joint.unshare(*task, *group));
        let mut common = false;
        for site in &correspondence.sites {
            let site = &self.alignment.sites[*site];
            common |= SiteSelection::at(self.joint, self.alignment, site)?.reason.is_none();
        }
        if !common {
            return Ok(());
        }
        self.joint.share_all(&neurons);
        self.settled.join(&correspondence.groups);
        Ok(())
    }

    /// Fits the gates of a node again where the site at `place` is its last one: to the hidden units as
    /// they are by now. Weights go half of the way, since the units follow.
    pub(super) fn repeat_gates(&mut self, place: usize) -> Result<()> {
        let sites = &self.alignment.sites;
        let node = |site: &Site| {
            let (task, id) = site.members().next()?;
            let layer = &self.joint.tasks[task].coupling.layer(id).layer;
            matches!(layer.kind, LayerKind::Gate(_)).then_some((task, layer.node))
        };
        let own = node(&sites[place]);
        if own.is_none() || sites.get(place + 1).is_some_and(|next| node(next) == own) {
            return Ok(());
        }
        let first = sites[..place].iter().rposition(|site| node(site) != own).map_or(0, |p| p + 1);
        for _ in 0..ROUNDS {
            for site in sites[first..=place].iter().filter(|site| site.is_common()) {
                self.go_half_way(site)?;
            }
        }
        Ok(())
    }

    /// Fits the layers of a site again, if that can change them, and moves their weights half of the way.
    fn go_half_way(&mut self, site: &Site) -> Result<()> {
        let selection = SiteSelection::at(self.joint, self.alignment, site)?;
        let members = selection.members();
        let adjusts = members.iter().all(|m| self.adjusts(m.task, &m.layer));
        if selection.duplicates || selection.reason.is_some() || site.own_weights || !adjusts {
            return Ok(());
        }
        let weights = |zip: &Self| -> Result<Vec<Array2<f32>>> {
            members.iter().map(|m| zip.weights(m.task, &m.layer)).collect()
        };
        let before = weights(self)?;
        self.zip_site(&members, &selection.columns, false, &mut SiteRecord::default())?;
        let after = weights(self)?;
        for (member, (before, after)) in members.iter().zip(before.iter().zip(&after)) {
            self.write(member.task, &member.layer, ((before + after) / 2.0).view())?;
        }
        Ok(())
    }

    /// What the pairs cost that were settled before the walk came to their first layer.
    pub(super) fn settled_ahead(&self, member: &SiteLayer) -> Vec<f64> {
        let found = self.later.get(&(member.task, member.id));
        found.map(|later| later.pair_costs.clone()).unwrap_or_default()
    }
}
