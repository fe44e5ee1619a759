//! Workers in this process, one after the other.

use std::sync::Arc;

use super::{Job, ShardWorker, Shards, Take};
use crate::error::Result;
use crate::progress::{PartProgress, Progress};
use crate::runtime::Backend;

/// All workers of a merge in its own process. Their replies are those of remote workers.
pub struct InProcess {
    backend: Arc<dyn Backend>,
    workers: Vec<ShardWorker>,
}

impl InProcess {
    /// Workers that run their nets with `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> InProcess {
        InProcess { backend, workers: Vec::new() }
    }
}

impl Shards for InProcess {
    fn start(&mut self, job: &Job<'_>, _: &dyn Progress) -> Result<()> {
        let worker = |shard| ShardWorker::new(job.nets(), &job.shard(shard)?, self.backend.clone());
        self.workers = (0..job.shards()).map(worker).collect::<Result<_>>()?;
        Ok(())
    }

    fn ask(
        &mut self,
        request: Vec<u8>,
        _: bool,
        take: &mut Take<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        for worker in &mut self.workers {
            progress.check()?;
            take(worker.answer(&request, &PartProgress::unheard(progress))?)?;
        }
        Ok(())
    }
}
