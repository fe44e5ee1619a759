//! Statistics of samples in shards, with one worker per shard.
//!
//! A worker holds the original nets and one shard of every task's samples. It gets one request per
//! layer, with the weights that have changed since the last request, and replies with the sums of its
//! shard. Sums are added in the order of the shards. So a merge depends on the number of shards, but
//! not on the workers.
//!
//! A reply depends only on the requests of the walk so far. So a worker that takes over a shard gets
//! all these requests, and runs through its samples like its predecessor.

mod in_process;
mod job;
mod message;
mod parcel;
mod source;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::calib::stream::Source;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::naming::counted;
use crate::progress::Progress;

pub use in_process::InProcess;
pub use job::Job;
pub(crate) use source::Sharded;
pub use worker::ShardWorker;

/// Limit of shards.
const MOST_SHARDS: usize = 1 << 16;

/// Receives the replies to a request, in the order of the shards.
pub type Take<'a> = dyn FnMut(Vec<u8>) -> Result<()> + 'a;

/// Workers, one per shard, in this process or elsewhere.
pub trait Shards: Send {
    /// Sends the nets and the shards to the workers. Called once, before the first request.
    ///
    /// # Errors
    /// If they cannot be reached.
    fn start(&mut self, job: &Job<'_>, progress: &dyn Progress) -> Result<()>;

    /// Sends a request to all workers, and passes their replies to `take`. A worker that replaces a
    /// failed one gets all requests of the walk again; see [`ShardWorker::replay`]. With `begins`, the
    /// request is the first of a walk, and earlier requests are dropped.
    ///
    /// # Errors
    /// Errors of workers; as `take`; [`ErrorKind::Interrupted`] when stopped.
    fn ask(
        &mut self,
        request: Vec<u8>,
        begins: bool,
        take: &mut Take<'_>,
        progress: &dyn Progress,
    ) -> Result<()>;
}

/// Shards of the samples of a merge, with their workers.
#[derive(Clone)]
pub struct Sharding {
    count: usize,
    link: Arc<Mutex<Link>>,
}

/// The workers, and the state common to all walks.
struct Link {
    workers: Box<dyn Shards>,
    has_started: bool,
    /// The workers' current walk.
    walk: u64,
}

impl fmt::Debug for Sharding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharding").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Sharding {
    /// `count` shards with these workers.
    pub fn new(count: usize, workers: impl Shards + 'static) -> Sharding {
        let link = Link { workers: Box::new(workers), has_started: false, walk: 0 };
        Sharding { count, link: Arc::new(Mutex::new(link)) }
    }

    /// Statistics of nets from their samples. The first call starts the workers; later calls must be
    /// for the same nets and samples.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for more shards than samples; as [`Shards::start`].
    pub(crate) fn source(
        &self,
        nets: &[&Model],
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Sharded> {
        let samples = sources.iter().map(|source| source.data.len()).min().unwrap_or(0);
        if self.count == 0 || self.count > samples.min(MOST_SHARDS) {
            let (samples, shards) = (counted(samples, "sample"), counted(self.count, "shard"));
            let message = format!("{samples} cannot be cut into {shards}");
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("give fewer ").option("shards")));
        }
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if !link.has_started {
            let job = Job::new(nets, sources, self.count)?;
            link.workers.start(&job, progress)?;
            link.has_started = true;
        }
        Ok(Sharded::new(self.clone(), nets))
    }
}

#[cfg(test)]
mod tests;
