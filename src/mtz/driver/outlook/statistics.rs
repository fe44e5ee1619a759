//! Statistics of the original nets' layers.

use std::collections::BTreeMap;

use crate::align::TaskLayer;
use crate::couple::LayerId;
use crate::error::Result;
use crate::mtz::solver::layer::LayerStats;
use crate::mtz::statistics::ChannelStats;

use super::view::{CorrespondingGroups, View};

/// Uses one of this many calibration rows, which is enough to find similar neurons.
const FEWER_ROWS: usize = 4;

/// Statistics of the original nets' layers.
#[derive(Default)]
pub(super) struct OriginalStats {
    pub(super) layers: BTreeMap<TaskLayer, LayerStats>,
    pub(super) depthwise: BTreeMap<TaskLayer, ChannelStats>,
}

/// Collects statistics of the producers of the correspondences.
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
    let mut statistics = OriginalStats::default();
    let batches = view.statistics.batches() * sites.len();
    view.progress.begin("statistics of groups", batches as u64);
    let rows = (view.options.max_rows / FEWER_ROWS).max(1);
    for task in view.joint.task_ids() {
        let is_needed = |id: &LayerId| {
            sites.iter().any(|s| view.alignment.sites[*s].layer_of(task) == Some(*id))
        };
        let layers = (0..view.joint.task(task).coupling().layers.len()).map(LayerId);
        let mut source = view.statistics.apart(rows);
        for own in layers.filter(is_needed).map(|id| task.layer(id)) {
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
