//! Statistics of the original nets' layers.

use crate::align::TaskLayer;
use crate::couple::LayerId;
use crate::error::Result;
use crate::mtz::statistics::{OriginalStats, Originals};

use super::view::{CorrespondingGroups, View};

/// Uses one of this many calibration rows, which is enough to find similar neurons.
const FEWER_ROWS: usize = 4;

/// Statistics of the producers of the correspondences. Those that an earlier merge left are not collected
/// again.
pub(super) fn original_statistics(
    view: View<'_, '_>,
    correspondences: &[CorrespondingGroups],
    last: usize,
) -> Result<OriginalStats> {
    let sites: Vec<usize> = correspondences
        .iter()
        .flat_map(|c| c.sites.iter().copied())
        .filter(|s| *s <= last)
        .collect();
    let mut statistics = view.originals.map(Originals::take).unwrap_or_default();
    let uses = |site: &usize| {
        let members = view.alignment.sites[*site].members();
        members.map(|own| 1 + view.joint.later_uses(own).len()).max().unwrap_or(1)
    };
    let batches = view.statistics.steps() * sites.iter().map(uses).sum::<usize>();
    view.progress.begin("statistics of groups", batches as u64);
    let rows = (view.options.max_rows / FEWER_ROWS).max(1);
    for task in view.joint.task_ids() {
        let is_needed = |id: &LayerId| {
            sites.iter().any(|s| view.alignment.sites[*s].layer_of(task) == Some(*id))
        };
        let layers = (0..view.joint.task(task).coupling().layers.len()).map(LayerId);
        let wanted = layers.filter(is_needed).map(|id| task.layer(id));
        let wanted: Vec<TaskLayer> = wanted.filter(|own| !statistics.has(*own)).collect();
        let mut source = view.statistics.apart(rows);
        for own in wanted {
            match view.joint.layer(own).per_channel {
                true => {
                    let stats = source.of_channels(view.joint, own)?;
                    statistics.depthwise.insert(own, stats);
                }
                false => {
                    statistics.layers.insert(own, source.of_layer(view.joint, own)?);
                }
            }
        }
    }
    Ok(statistics)
}
