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
use crate::mtz::joint::JointModel;
use crate::mtz::site::{SiteRecord, SiteSelection};
use crate::ops::LayerKind;

use super::Driver;

/// How often the gates of a recurrent layer are gone through again.
const ROUNDS: usize = 2;

impl Driver<'_> {
    /// Fits the gates of a node again where the site at `place` is its last one: to the hidden units as
    /// they are by now. Weights go half of the way, since the units follow.
    pub(super) fn repeat_gates(&mut self, place: usize) -> Result<()> {
        let sites = &self.alignment.sites;
        let node = |site: &Site| {
            let first = site.members().next()?;
            let layer = &self.joint.layer(first).layer;
            matches!(layer.kind, LayerKind::Gate(_)).then_some((first.task, layer.node))
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
        let adjusts = members.iter().all(|m| self.statistics.adjusts(self.joint, m.place()));
        if selection.duplicates || selection.reason.is_some() || site.own_weights || !adjusts {
            return Ok(());
        }
        let weights = |joint: &JointModel| -> Result<Vec<Array2<f32>>> {
            members.iter().map(|m| joint.weights(m.place())).collect()
        };
        let before = weights(self.joint)?;
        self.merge_layers(&members, &selection.columns, false, &mut SiteRecord::default())?;
        let after = weights(self.joint)?;
        for (member, (before, after)) in members.iter().zip(before.iter().zip(&after)) {
            self.joint.write(member.place(), ((before + after) / 2.0).view())?;
        }
        Ok(())
    }
}
