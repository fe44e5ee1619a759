//! Where sums over the rows of layers' inputs come from.

use serde::{Deserialize, Serialize};

use crate::align::TaskLayer;
use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::calib::taps::RowLimit;
use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::ir::Model;
use crate::progress::Progress;

/// Gives statistics of one layer after the other, in the order of the walk.
///
/// Implementations differ in where the samples are: in this process ([`super::streamed`]), in an earlier
/// calibration ([`super::stored`]), or in shards, each with a worker ([`super::sharded`]).
pub(crate) trait StatisticsSource {
    /// Steps of progress that one layer of each task takes together.
    fn steps(&self) -> usize;

    /// Statistics of the inputs of a layer.
    ///
    /// # Errors
    /// As the runtime and the samples; [`crate::error::ErrorKind::Interrupted`] when stopped.
    fn of_layer(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<Statistics>;

    /// The moments of every channel of a depthwise layer alone.
    ///
    /// # Errors
    /// As [`StatisticsSource::of_layer`].
    fn of_channels(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress)
    -> Result<Vec<Moments>>;

    /// Weights have changed everywhere in the nets as merged so far.
    fn restart(&mut self);

    /// The same source, for a walk of its own from the first layer on.
    fn fork<'s>(&self) -> Box<dyn StatisticsSource + 's>
    where
        Self: 's;
}

/// A layer of which statistics are wanted.
pub(crate) struct Wanted<'s> {
    /// Whose layer it is, and which one.
    pub(crate) own: TaskLayer,
    pub(crate) layer: &'s CoupledLayer,
    /// The task's net with the weights that it has now.
    pub(crate) current: &'s Model,
    pub(crate) view: View,
    /// How many rows are taken, and how.
    pub(crate) limit: RowLimit,
    /// Bytes that values may take that are kept for the next layers; as before where it is `None`.
    pub(crate) room: Option<u64>,
}

/// Which net counts at a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum View {
    /// The original net.
    Original,
    /// The net as merged so far.
    Merged,
    /// The net as merged so far; beside it the original, whose pre-activations are targets.
    WithTargets,
}
