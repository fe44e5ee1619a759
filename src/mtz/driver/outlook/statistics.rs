//! Statistics of the original nets' layers.

use std::collections::BTreeMap;

use crate::align::TaskLayer;
use crate::couple::LayerId;
use crate::error::Result;
use crate::mtz::driver::Driver;
use crate::mtz::solver::layer::LayerStats;
use crate::mtz::statistics::ChannelStats;

use super::CorrespondingGroups;

/// One of so many calibration rows is enough to say which neurons are alike.
const FEWER_ROWS: usize = 4;

/// Statistics of the original nets' layers.
#[derive(Default)]
pub(super) struct OriginalStats {
    pub(super) layers: BTreeMap<TaskLayer, LayerStats>,
    pub(super) depthwise: BTreeMap<TaskLayer, ChannelStats>,
}

impl Driver<'_> {
    /// Statistics of the layers that make the correspondences.
    pub(super) fn original_statistics(
        &self,
        correspondences: &[CorrespondingGroups],
        last: usize,
    ) -> Result<OriginalStats> {
        let sites: Vec<usize> = correspondences
            .iter()
            .flat_map(|c| c.sites.iter().copied())
            .filter(|s| *s <= last)
            .collect();
        let mut statistics = OriginalStats::default();
        let batches = self.statistics.batches() * sites.len();
        self.progress.begin("statistics of groups", batches as u64);
        let rows = (self.options.max_rows / FEWER_ROWS).max(1);
        for task in self.joint.task_ids() {
            let is_needed = |id: &LayerId| {
                sites.iter().any(|s| self.alignment.sites[*s].layer_of(task) == Some(*id))
            };
            let layers = (0..self.joint.task(task).coupling().layers.len()).map(LayerId);
            let mut source = self.statistics.apart(rows);
            for own in layers.filter(is_needed).map(|id| task.layer(id)) {
                match self.joint.layer(own).per_channel {
                    true => {
                        let stats = source.of_channels(self.joint, own)?;
                        statistics.depthwise.insert(own, stats);
                    }
                    false => {
                        statistics.layers.insert(own, source.of_layer(self.joint, own)?);
                    }
                }
            }
        }
        Ok(statistics)
    }
}
