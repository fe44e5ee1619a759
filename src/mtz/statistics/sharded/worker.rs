//! A worker's side: one shard of the samples, and the nets.

use std::sync::Arc;

use super::job::{Net, count_shards, read_nets, read_shard};
use super::message::{Reply, Request};
use super::parcel::{Parcel, damaged};
use crate::align::{TaskId, TaskLayer};
use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::calib::taps::Part;
use crate::couple::{CoupledLayer, Coupling, LayerId};
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::mtz::statistics::source::{StatisticsSource, Wanted};
use crate::mtz::statistics::streamed::{PausedStreams, Streamed};
use crate::progress::Progress;
use crate::runtime::{Backend, measuring};

/// Works on one shard: takes requests in their order, and replies with the sums of its samples.
pub struct ShardWorker {
    backend: Arc<dyn Backend>,
    tasks: Vec<ShardTask>,
    walk: Option<Walk>,
}

/// One task's net and its samples.
struct ShardTask {
    net: Net,
    coupling: Coupling,
    data: Dataset,
    part: Part,
}

/// The worker's place in the walk.
struct Walk {
    number: u64,
    /// Number of the next request.
    next: u64,
    /// Per task, the net with its current weights.
    current: Vec<Model>,
    streams: PausedStreams,
}

impl ShardWorker {
    /// A worker for one shard, from [`super::Job::nets`] and [`super::Job::shard`].
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] for damaged bytes or those of another version of the
    /// program; as [`Dataset::open`], if the samples are in a file.
    pub fn new(nets: &[u8], shard: &[u8], backend: Arc<dyn Backend>) -> Result<ShardWorker> {
        let nets = read_nets(nets)?;
        let samples = read_shard(shard)?;
        if nets.len() != samples.len() {
            return Err(damaged("there is not one data set per net"));
        }
        let backend = measuring(backend, nets.iter().map(|net| &net.model.graph));
        let tasks = nets.into_iter().zip(samples).map(|(net, (data, part))| {
            let coupling = Coupling::of(&net.model.graph).in_model(&net.model.name)?;
            Ok(ShardTask { net, coupling, data, part })
        });
        Ok(ShardWorker { backend, tasks: tasks.collect::<Result<_>>()?, walk: None })
    }

    /// The number of shards, from [`super::Job::nets`].
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] for damaged nets.
    pub fn count(nets: &[u8]) -> Result<usize> {
        count_shards(nets)
    }

    /// Replies to a request.
    ///
    /// # Errors
    /// As the runtime and the samples; [`crate::error::ErrorKind::Format`] for a request out of order.
    pub fn answer(&mut self, request: &[u8], progress: &dyn Progress) -> Result<Vec<u8>> {
        let found = self.work(request, progress, |streams, wanted, by_channel| {
            Ok(match by_channel {
                true => streams.any_of_channels(wanted, progress)?.map(Reply::Channels),
                false => streams.any_of_layer(wanted, progress)?.map(Reply::Layer),
            })
        })?;
        found.unwrap_or(Reply::Nothing).encode()
    }

    /// Applies a request that another worker has replied to: runs through the samples like
    /// [`ShardWorker::answer`], but sums nothing up.
    ///
    /// # Errors
    /// As [`ShardWorker::answer`].
    pub fn replay(&mut self, request: &[u8], progress: &dyn Progress) -> Result<()> {
        self.work(request, progress, |streams, wanted, _| streams.pass(wanted, progress))
    }

    /// Brings nets and streams to where a request has them, and does `work` there.
    fn work<R>(
        &mut self,
        request: &[u8],
        progress: &dyn Progress,
        work: impl FnOnce(&mut Streamed<'_>, &Wanted<'_>, bool) -> Result<R>,
    ) -> Result<R> {
        let parcel: Parcel<'_, Request> = Parcel::of(request)?;
        let request = &parcel.header;
        progress.check()?;
        if request.number == 0 {
            self.walk = Some(self.begin(request.walk)?);
        }
        let walk =
            self.walk.take().filter(|w| (w.number, w.next) == (request.walk, request.number));
        let mut walk = walk.ok_or_else(|| damaged("requests came out of their order"))?;
        let Some((task, current)) =
            self.tasks.get(request.task).zip(walk.current.get_mut(request.task))
        else {
            return Err(damaged("there is no such task"));
        };
        for (number, changed) in request.changed.iter().enumerate() {
            let value = current.graph.value_named(&changed.name);
            let value = value.ok_or_else(|| damaged("there is no such constant"))?;
            current.graph.set_initializer(value, changed.tensor(parcel.blob(number)?));
        }
        let layer = task.layer(request.layer)?;
        let limit = request.limit(task.part);
        let own = TaskLayer { task: TaskId(request.task), layer: LayerId(request.layer) };
        let (view, room) = (request.view, request.room);
        let wanted = Wanted { own, layer, current, view, limit, room };
        let data = self.tasks.iter().map(|task| &task.data);
        let mut streams = walk.streams.resume(self.backend.as_ref(), data);
        if request.restart {
            streams.restart();
        }
        let found = work(&mut streams, &wanted, request.by_channel);
        let found = found.in_model(&task.net.model.name)?;
        walk.streams = streams.pause();
        walk.next += 1;
        self.walk = Some(walk);
        Ok(found)
    }

    /// Begins a walk with the original nets.
    fn begin(&self, number: u64) -> Result<Walk> {
        let streams = Streamed::new(self.tasks.iter().map(|task| {
            let Net { model, batch, memory } = &task.net;
            let backend = self.backend.as_ref();
            let source = Source { backend, data: &task.data, batch: *batch, memory: *memory };
            (model.clone(), source)
        }))?;
        let current = self.tasks.iter().map(|task| task.net.model.clone()).collect();
        Ok(Walk { number, next: 0, current, streams: streams.pause() })
    }
}

impl ShardTask {
    fn layer(&self, layer: usize) -> Result<&CoupledLayer> {
        self.coupling.layers.get(layer).ok_or_else(|| damaged("there is no such layer"))
    }
}
