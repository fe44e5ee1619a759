//! A worker's side: claims shards, and replies to the merge.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::beat::{Beat, Watch};
use super::claims::Claims;
use super::folder::LONGEST_PAUSE;
use super::layout::{self, Current, Layout};
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::statistics::ShardWorker;
use crate::progress::{PartProgress, Progress};
use crate::runtime::Backend;

/// A worker's patience with the merge, as a multiple of that with other workers: no other process can
/// take the merge's place.
const PATIENCE_WITH_MERGES: u32 = 4;

/// The state of a shard: its worker, once it has begun, and the next request.
#[derive(Default)]
struct Work {
    worker: Option<ShardWorker>,
    next: u64,
}

/// Works for the merge that uses `folder`, until the merge ends. Other workers count as dead after
/// `patience` without a heartbeat.
///
/// # Errors
/// As [`ShardWorker`]; [`ErrorKind::Interrupted`] when stopped; [`ErrorKind::Calibration`] if the merge
/// dies.
pub(crate) fn work(
    folder: &Path,
    backend: Arc<dyn Backend>,
    patience: Duration,
    progress: &dyn Progress,
) -> Result<()> {
    let layout = Layout::new(folder);
    let Some(nets) = wait_for_nets(&layout, progress)? else { return Ok(()) };
    let name = name();
    let _beat = match Beat::start(layout.workers().join(&name)) {
        Ok(beat) => beat,
        // Files vanish when a merge ends.
        Err(_) if layout.end().exists() => return Ok(()),
        Err(error) => return Err(error),
    };
    let claims = Claims::new(layout.clone(), name, ShardWorker::count(&nets)?);
    let merge = Watch::new(patience * PATIENCE_WITH_MERGES);
    let others = Watch::new(patience);
    Worker { layout: &layout, nets, backend, claims, merge, others }.run(progress)
}

/// Waits for the nets of the merge; `None` if the merge has ended.
fn wait_for_nets(layout: &Layout, progress: &dyn Progress) -> Result<Option<Vec<u8>>> {
    progress.status("waiting for a merge");
    loop {
        progress.check()?;
        if layout.end().exists() {
            return Ok(None);
        }
        if let Some(nets) = layout::read(&layout.nets())? {
            return Ok(Some(nets));
        }
        thread::sleep(LONGEST_PAUSE);
    }
}

/// A unique name for this worker.
fn name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", since.as_nanos(), std::process::id())
}

struct Worker<'a> {
    layout: &'a Layout,
    nets: Vec<u8>,
    backend: Arc<dyn Backend>,
    claims: Claims<Work>,
    merge: Watch,
    others: Watch,
}

impl Worker<'_> {
    fn run(&mut self, progress: &dyn Progress) -> Result<()> {
        let mut pause = Duration::from_millis(2);
        loop {
            progress.check()?;
            // Asked first, since a merge may end in between.
            let is_alive = self.merge.is_alive(&self.layout.merge());
            if self.layout.end().exists() {
                return Ok(());
            }
            if !is_alive {
                return Err(Error::new(
                    ErrorKind::Calibration,
                    "the merge has stopped without saying so",
                )
                .hint("start the merge again, in another folder"));
            }
            self.claims.settle(&mut self.others);
            pause = match self.round(progress)? {
                true => Duration::from_millis(2),
                false => (pause * 3 / 2).min(LONGEST_PAUSE),
            };
            thread::sleep(pause);
        }
    }

    /// Replies to the open requests for all claimed shards. Returns whether there were any.
    fn round(&mut self, progress: &dyn Progress) -> Result<bool> {
        let Some(current) = self.layout.current() else { return Ok(false) };
        let mut has_worked = false;
        let shards: Vec<usize> = self.claims.held().keys().copied().collect();
        for shard in shards {
            let Some(mut work) = self.claims.held().remove(&shard) else { continue };
            let done = self.catch_up(shard, &mut work, current, progress);
            self.claims.held().insert(shard, work);
            has_worked |= done.or_else(|error| self.failed(shard, error))?;
        }
        Ok(has_worked)
    }

    /// Processes the requests that a shard's worker has not seen. Only the last one needs a reply.
    fn catch_up(
        &self,
        shard: usize,
        work: &mut Work,
        current: Current,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let quiet = PartProgress::unheard(progress);
        let mut has_worked = false;
        work.next = work.next.max(current.first);
        while work.next <= current.last {
            // Requests vanish when their walk ends.
            let Some(request) = layout::read(&self.layout.request(work.next))? else { break };
            let worker = match &mut work.worker {
                Some(worker) => worker,
                none => match layout::read(&self.layout.shard(shard))? {
                    Some(samples) => {
                        progress.note(&format!("works on shard {shard}"));
                        let worker = ShardWorker::new(&self.nets, &samples, self.backend.clone())?;
                        none.insert(worker)
                    }
                    None => break,
                },
            };
            let path = self.layout.reply(work.next, shard);
            match work.next < current.last || path.exists() {
                true => worker.replay(&request, &quiet)?,
                false => layout::write(&path, &worker.answer(&request, &quiet)?)?,
            }
            work.next += 1;
            has_worked = true;
        }
        Ok(has_worked)
    }

    /// Reports an error to the merge, which would otherwise wait for ever. After the end of a merge, whose files
    /// vanish, there is none.
    fn failed(&self, shard: usize, error: Error) -> Result<bool> {
        if error.kind() != ErrorKind::Interrupted {
            if self.layout.end().exists() {
                return Ok(false);
            }
            let text = format!("shard {shard}: {error}");
            // If this cannot be written, other workers take the shard over and fail, too.
            let _ = layout::write(&self.layout.failed(), text.as_bytes());
        }
        Err(error)
    }
}
