//! Statistics from earlier calibrations.

use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::calib::store::LayerMoments;
use crate::error::Result;
use crate::progress::Progress;

use super::source::{StatisticsSource, View, Wanted};

/// Stored statistics of the original nets; `rest` provides missing ones.
pub(crate) struct Stored<'a> {
    /// Per task.
    moments: &'a [LayerMoments],
    rest: Box<dyn StatisticsSource + 'a>,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(moments: &'a [LayerMoments], rest: Box<dyn StatisticsSource + 'a>) -> Self {
        Stored { moments, rest }
    }
}

impl StatisticsSource for Stored<'_> {
    fn steps(&self) -> usize {
        self.rest.steps()
    }

    fn of_layer(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<Statistics> {
        let of_task = self.moments.get(wanted.own.task.0);
        let stored = of_task.and_then(|layers| layers.get(&wanted.layer.name));
        match stored.filter(|_| wanted.view == View::Original) {
            Some(moments) => Ok(moments.clone().into()),
            None => self.rest.of_layer(wanted, progress),
        }
    }

    fn of_channels(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Moments>> {
        self.rest.of_channels(wanted, progress)
    }

    fn restart(&mut self) {
        self.rest.restart();
    }

    fn fork<'s>(&self) -> Box<dyn StatisticsSource + 's>
    where
        Self: 's,
    {
        Box::new(Stored { moments: self.moments, rest: self.rest.fork() })
    }
}
