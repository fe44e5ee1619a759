//! The merge's side: sends requests, and adds up the replies.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::Sharding;
use super::message::{Changed, Reply, Request};
use super::parcel::{damaged, pack};
use crate::calib::gram::{Moments, no_rows};
use crate::calib::kept::Statistics;
use crate::error::Result;
use crate::ir::{Model, Tensor, ValueId};
use crate::mtz::statistics::source::{StatisticsSource, Wanted};
use crate::progress::Progress;

/// The constants of a net.
type Constants = BTreeMap<ValueId, Tensor>;

/// Statistics of samples in shards.
pub(crate) struct Sharded {
    sharding: Sharding,
    /// Constants of the original nets, per task.
    originals: Vec<Constants>,
    /// Constants as the workers know them.
    known: Vec<Constants>,
    /// The walk of this source; none before its first request.
    walk: Option<u64>,
    next: u64,
    restarts: bool,
}

impl Sharded {
    pub(super) fn new(sharding: Sharding, nets: &[&Model]) -> Sharded {
        let constants = |net: &&Model| -> Constants {
            let values = net.graph.values();
            values.filter_map(|(id, _)| Some((id, net.graph.initializer(id)?.clone()))).collect()
        };
        Sharded::at_start(sharding, nets.iter().map(constants).collect())
    }

    fn at_start(sharding: Sharding, originals: Vec<Constants>) -> Sharded {
        let known = Vec::new();
        Sharded { sharding, originals, known, walk: None, next: 0, restarts: false }
    }

    /// Sends a request to all shards, and passes their replies on in order.
    fn ask(
        &mut self,
        wanted: &Wanted<'_>,
        by_channel: bool,
        take: &mut dyn FnMut(Reply) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let link = self.sharding.link.clone();
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = self.walk != Some(link.walk);
        if begins {
            link.walk += 1;
            (self.walk, self.next) = (Some(link.walk), 0);
            self.known.clone_from(&self.originals);
        }
        let (changed, blobs) = self.changes(wanted);
        let request = Request {
            walk: link.walk,
            number: self.next,
            task: wanted.own.task.0,
            layer: wanted.own.layer.0,
            view: wanted.view,
            by_channel,
            restart: std::mem::take(&mut self.restarts),
            rows: wanted.limit.rows,
            kept: wanted.limit.kept,
            coherence: wanted.limit.coherence,
            seed: wanted.limit.seed,
            room: wanted.room,
            changed,
        };
        self.next += 1;
        let mut replies = 0;
        let mut take = |bytes: Vec<u8>| {
            replies += 1;
            take(Reply::decode(&bytes, by_channel)?)?;
            progress.step();
            Ok(())
        };
        link.workers.ask(pack(&request, &blobs)?, begins, &mut take, progress)?;
        match replies == self.sharding.count {
            true => Ok(()),
            false => Err(damaged(format!("{replies} shards of {} replied", self.sharding.count))),
        }
    }

    /// Constants of a task's net that have changed since the last request, with their elements.
    fn changes(&mut self, wanted: &Wanted<'_>) -> (Vec<Changed>, Vec<Vec<u8>>) {
        let graph = &wanted.current.graph;
        let Some(known) = self.known.get_mut(wanted.own.task.0) else { return Default::default() };
        let (mut changed, mut blobs) = (Vec::new(), Vec::new());
        for (id, tensor) in known {
            let Some(now) = graph.initializer(*id).filter(|now| !is_same(now, tensor)) else {
                continue;
            };
            changed.push(Changed::new(&graph.value(*id).name, now));
            blobs.push(now.data.to_vec());
            *tensor = now.clone();
        }
        (changed, blobs)
    }
}

/// Whether two tensors are equal. Most equal tensors share their memory.
fn is_same(a: &Tensor, b: &Tensor) -> bool {
    let is_one = a.data.as_ptr() == b.data.as_ptr() && a.data.len() == b.data.len();
    a.dtype == b.dtype && a.dims == b.dims && (is_one || a.data == b.data)
}

impl StatisticsSource for Sharded {
    fn steps(&self) -> usize {
        self.sharding.count * self.originals.len()
    }

    fn of_layer(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<Statistics> {
        let mut sum: Option<Statistics> = None;
        let mut take = |reply| {
            sum = match (reply, sum.take()) {
                (Reply::Nothing, before) => before,
                (Reply::Layer(next), None) => Some(next),
                (Reply::Layer(next), Some(sum)) => Some(sum.and(next, wanted.limit.kept)?),
                (Reply::Channels(_), _) => return Err(damaged("it is about channels")),
            };
            Ok(())
        };
        self.ask(wanted, false, &mut take, progress)?;
        sum.ok_or_else(no_rows)
    }

    fn of_channels(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Moments>> {
        let mut sum: Option<Vec<Moments>> = None;
        let mut take = |reply| {
            match (reply, &mut sum) {
                (Reply::Nothing, _) => {}
                (Reply::Channels(next), None) => sum = Some(next),
                (Reply::Channels(next), Some(sum)) if next.len() == sum.len() => {
                    sum.iter_mut().zip(&next).try_for_each(|(sum, next)| sum.merge(next))?;
                }
                _ => return Err(damaged("it is about other channels")),
            }
            Ok(())
        };
        self.ask(wanted, true, &mut take, progress)?;
        sum.ok_or_else(no_rows)
    }

    fn restart(&mut self) {
        self.restarts = true;
    }

    fn fork<'s>(&self) -> Box<dyn StatisticsSource + 's>
    where
        Self: 's,
    {
        Box::new(Sharded::at_start(self.sharding.clone(), self.originals.clone()))
    }
}
