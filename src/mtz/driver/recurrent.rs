//! Hidden units of recurrent layers.
//!
//! A recurrent layer reads the channels that it produces, so its shared inputs depend on its own
//! pairs. These pairs are found before the main pass, when all groups are paired repeatedly: the
//! units paired in one round are shared inputs in the next. The main pass keeps these pairs and fuses
//! the weights gate by gate. Every gate changes the hidden units that all gates read, so the gates
//! are fitted several times.

use ndarray::Array2;

use crate::align::Site;
use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::site::{SiteRecord, SiteSelection};
use crate::ops::LayerKind;

use super::Driver;

/// Additional passes over the gates of a recurrent layer.
const ROUNDS: usize = 2;

impl Driver<'_> {
    /// Fits the gates of a node again after its last site, to the changed hidden units. Weights move
    /// half way, since the units change with them.
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

    /// Fits the layers of a site again, and moves their weights half way, if they can change.
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
