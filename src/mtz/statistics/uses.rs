//! Statistics of layers that a net applies several times: sums over all uses.
//!
//! The walk comes to such a layer at its first use. There its weights change for all uses, so all of them count.

use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::error::Result;
use crate::progress::Progress;

use super::source::{StatisticsSource, Wanted};

/// Requests for the statistics of a layer at each of its uses.
pub(super) struct Uses<'s> {
    pub(super) first: Wanted<'s>,
    pub(super) later: Vec<Wanted<'s>>,
}

impl Uses<'_> {
    /// Statistics of the layer's inputs.
    ///
    /// # Errors
    /// As [`StatisticsSource::of_layer`].
    pub(super) fn of_layer(
        &self,
        source: &mut dyn StatisticsSource,
        progress: &dyn Progress,
    ) -> Result<Statistics> {
        let kept = self.first.limit.kept;
        let take = |source: &mut dyn StatisticsSource, wanted: &Wanted<'_>| {
            source.of_layer(wanted, progress)
        };
        self.summed(source, take, |sum, next| sum.and(next, kept))
    }

    /// Moments of every channel of a depthwise layer.
    ///
    /// # Errors
    /// As [`StatisticsSource::of_channels`].
    pub(super) fn of_channels(
        &self,
        source: &mut dyn StatisticsSource,
        progress: &dyn Progress,
    ) -> Result<Vec<Moments>> {
        let take = |source: &mut dyn StatisticsSource, wanted: &Wanted<'_>| {
            source.of_channels(wanted, progress)
        };
        self.summed(source, take, |mut sum, next| {
            sum.iter_mut().zip(&next).try_for_each(|(sum, next)| sum.merge(next))?;
            Ok(sum)
        })
    }

    /// What `take` returns for all uses, added up.
    fn summed<S>(
        &self,
        source: &mut dyn StatisticsSource,
        take: impl Fn(&mut dyn StatisticsSource, &Wanted<'_>) -> Result<S>,
        and: impl Fn(S, S) -> Result<S>,
    ) -> Result<S> {
        let mut sum = take(source, &self.first)?;
        if self.later.is_empty() {
            return Ok(sum);
        }
        // The next layers of the walk come before the later uses, so the source stays where it is.
        let mut ahead = source.fork();
        for wanted in &self.later {
            sum = and(sum, take(ahead.as_mut(), wanted)?)?;
        }
        Ok(sum)
    }
}
