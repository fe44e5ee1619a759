//! Selects the layers of a site that can share neurons.

use crate::align::{Alignment, Site};
use crate::error::{Hint, Result};
use crate::mtz::joint::JointModel;
use crate::mtz::options::Budget;

use super::common_inputs::CommonInputs;
use super::layers::{SiteLayer, common_neurons, layers_at, of_one_correspondence, taps};
use super::unshared;

/// The layers of a site that take part in a merge.
pub(crate) struct SiteSelection {
    /// All layers of the site.
    pub(crate) all: Vec<SiteLayer>,
    /// The layers that can share neurons; empty if there is a reason.
    pub(crate) zipped: Vec<usize>,
    /// The common inputs of these layers.
    pub(crate) columns: CommonInputs,
    /// Weights per row and input.
    pub(crate) taps: usize,
    /// Whether the layers are duplicates, so that nothing needs to be done.
    pub(crate) duplicates: bool,
    /// The reason why no neurons can be shared, if so.
    pub(crate) reason: Option<String>,
    /// The next step for the user.
    pub(crate) hint: Option<Hint>,
}

impl SiteSelection {
    /// Selects the layers of a site that can share neurons.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
    pub(crate) fn at(
        joint: &JointModel,
        alignment: &Alignment,
        site: &Site,
    ) -> Result<SiteSelection> {
        let all = layers_at(joint, site);
        let duplicates = alignment.is_duplicate(site);
        let zipped = match duplicates {
            true => (0..all.len()).collect(),
            false => of_one_correspondence(alignment, &all),
        };
        let members: Vec<SiteLayer> = zipped.iter().map(|i| all[*i].clone()).collect();
        let taps = taps(joint, &all)?;
        let columns = CommonInputs::of(joint, alignment, &members, taps);
        let reason = match barrier(alignment, &all, &members) {
            _ if duplicates => None,
            Some(reason) => Some(reason),
            None => {
                no_input(&members, &columns).then(|| unshared::reason(joint, alignment, &members))
            }
        };
        let (zipped, columns) = match reason {
            Some(_) => (Vec::new(), CommonInputs::default()),
            None => (zipped, columns),
        };
        Ok(SiteSelection { all, zipped, columns, taps, duplicates, reason, hint: None })
    }

    /// The layers of the record: those that can share neurons, or all if none can.
    pub(crate) fn recorded(&self) -> Vec<SiteLayer> {
        if self.reason.is_some() { self.all.clone() } else { self.members() }
    }

    /// Whether the layers keep their weights since none of their neurons is to be shared, although channels are
    /// common: those that correspond by index, or that other layers of their groups have paired.
    pub(crate) fn leaves_alone(
        &self,
        joint: &JointModel,
        (alignment, site): (&Alignment, &Site),
        budget: &Budget,
    ) -> bool {
        let members = self.members();
        let shares_nothing =
            members.first().is_some_and(|first| budget.shares_nothing_of(&first.layer.name));
        let is_common = || !common_neurons(joint, &members).is_empty();
        shares_nothing && (alignment.is_by_index(site) || is_common())
    }

    /// The layers that can share neurons, in the tasks' order.
    pub(crate) fn members(&self) -> Vec<SiteLayer> {
        self.zipped.iter().map(|i| self.all[*i].clone()).collect()
    }
}

/// The reason why the layers of a site can share no neurons, whatever other layers share; `None` if they may.
pub(crate) fn unshareable(
    joint: &JointModel,
    alignment: &Alignment,
    site: &Site,
) -> Option<String> {
    let all = layers_at(joint, site);
    let members = of_one_correspondence(alignment, &all);
    let members: Vec<SiteLayer> = members.into_iter().map(|i| all[i].clone()).collect();
    barrier(alignment, &all, &members).filter(|_| !alignment.is_duplicate(site))
}

/// The reason why no two of `all` layers can share neurons; `members` are those of one correspondence.
fn barrier(alignment: &Alignment, all: &[SiteLayer], members: &[SiteLayer]) -> Option<String> {
    match members.len() {
        0 | 1 => Some(apart(alignment, all)),
        _ => obstacle(members),
    }
}

/// The reason why no two of the layers can share neurons.
fn apart(alignment: &Alignment, all: &[SiteLayer]) -> String {
    if all.iter().any(|m| m.group().is_none()) {
        return "its channels belong to several groups".to_owned();
    }
    let refusal = |m: &SiteLayer| alignment.refused.get(&m.group()?).cloned();
    all.iter()
        .find_map(refusal)
        .unwrap_or_else(|| "its channels correspond to those of another layer".to_owned())
}

/// The reason why layers of corresponding groups cannot share neurons.
fn obstacle(members: &[SiteLayer]) -> Option<String> {
    if let Some(reason) = members.iter().find_map(|m| m.layer.tied) {
        return Some(reason.to_owned());
    }
    let with_bias = members.iter().filter(|m| m.layer.layer.bias.is_some()).count();
    if with_bias > 0 && with_bias < members.len() {
        return Some("only some of the layers have a bias".to_owned());
    }
    None
}

fn no_input(members: &[SiteLayer], columns: &CommonInputs) -> bool {
    columns.count == 0 && !members.iter().all(|m| m.layer.per_channel)
}
