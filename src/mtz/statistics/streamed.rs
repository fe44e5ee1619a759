//! Statistics from samples that stream through the nets in this process.

use crate::calib::data::Dataset;
use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::calib::stream::{Paused, Source, Stream};
use crate::calib::taps::{
    Running, collect, collect_any, collect_any_channels, collect_channels, pass,
};
use crate::error::Result;
use crate::ir::Model;
use crate::progress::Progress;
use crate::runtime::Backend;

use super::source::{StatisticsSource, View, Wanted};

/// The nets of all tasks, with their streams through their samples.
#[derive(Clone)]
pub(crate) struct Streamed<'a> {
    tasks: Vec<TaskStreams<'a>>,
}

/// The streams of one task's nets.
#[derive(Clone)]
struct TaskStreams<'a> {
    model: Model,
    original: Stream<'a>,
    /// The net as merged so far; created on first use.
    merged: Option<Stream<'a>>,
}

/// The state of all streams, without their samples and their runtime.
pub(super) struct PausedStreams {
    tasks: Vec<(Model, Paused, Option<Paused>)>,
}

impl PausedStreams {
    /// Continues the streams with the samples of each task.
    pub(super) fn resume<'a>(
        &mut self,
        backend: &'a dyn Backend,
        data: impl Iterator<Item = &'a Dataset>,
    ) -> Streamed<'a> {
        let tasks = self.tasks.drain(..).zip(data).map(|((model, original, merged), data)| {
            let original = original.resume(backend, data);
            let merged = merged.map(|merged| merged.resume(backend, data));
            TaskStreams { model, original, merged }
        });
        Streamed { tasks: tasks.collect() }
    }
}

impl<'a> Streamed<'a> {
    /// Original nets, each with its samples.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if a net has a cycle.
    pub(crate) fn new(nets: impl IntoIterator<Item = (Model, Source<'a>)>) -> Result<Streamed<'a>> {
        let streams = nets.into_iter().map(|(model, source)| {
            Ok(TaskStreams { original: Stream::new(&model, source)?, model, merged: None })
        });
        Ok(Streamed { tasks: streams.collect::<Result<_>>()? })
    }

    /// [`StatisticsSource::of_layer`] for samples that may give no rows.
    pub(crate) fn any_of_layer(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Statistics>> {
        let (inputs, targets) = self.running(wanted);
        collect_any(wanted.layer, inputs, targets, wanted.limit, progress)
    }

    /// [`StatisticsSource::of_channels`] for samples that may give no rows.
    pub(crate) fn any_of_channels(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<Moments>>> {
        let (inputs, targets) = self.running(wanted);
        collect_any_channels(wanted.layer, inputs, targets, wanted.limit, progress)
    }

    /// Pauses the streams.
    pub(super) fn pause(self) -> PausedStreams {
        let tasks = self.tasks.into_iter().map(|TaskStreams { model, original, merged }| {
            (model, original.pause(), merged.map(Stream::pause))
        });
        PausedStreams { tasks: tasks.collect() }
    }

    /// Advances the streams without statistics.
    pub(crate) fn pass(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<()> {
        let (inputs, targets) = self.running(wanted);
        pass(wanted.layer, inputs, targets, progress)
    }

    /// The nets for inputs and for target pre-activations at a layer.
    fn running<'s>(
        &'s mut self,
        wanted: &Wanted<'s>,
    ) -> (Running<'s, 'a>, Option<Running<'s, 'a>>) {
        let TaskStreams { model, original, merged } = &mut self.tasks[wanted.own.task.0];
        if wanted.view != View::Original && merged.is_none() {
            *merged = Some(original.clone());
        }
        if let Some(room) = wanted.room {
            original.allow(room);
            merged.iter_mut().for_each(|merged| merged.allow(room));
        }
        let original = Running { model, stream: original };
        match (wanted.view, merged) {
            (View::Original, _) | (_, None) => (original, None),
            (view, Some(stream)) => {
                let inputs = Running { model: wanted.current, stream };
                (inputs, (view == View::WithTargets).then_some(original))
            }
        }
    }
}

impl StatisticsSource for Streamed<'_> {
    fn steps(&self) -> usize {
        self.tasks.iter().map(|streams| streams.original.source().batches()).sum()
    }

    fn of_layer(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<Statistics> {
        let (inputs, targets) = self.running(wanted);
        collect(wanted.layer, inputs, targets, wanted.limit, progress)
    }

    fn of_channels(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Moments>> {
        let (inputs, targets) = self.running(wanted);
        collect_channels(wanted.layer, inputs, targets, wanted.limit, progress)
    }

    fn restart(&mut self) {
        for streams in &mut self.tasks {
            let merged = streams.merged.get_or_insert_with(|| streams.original.clone());
            merged.restart();
        }
    }

    fn fork<'s>(&self) -> Box<dyn StatisticsSource + 's>
    where
        Self: 's,
    {
        Box::new(self.clone())
    }
}
