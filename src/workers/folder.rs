//! The merge's side: asks workers, and collects their replies.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::beat::{Beat, Watch};
use super::layout::{self, Current, Layout};
use super::open;
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::statistics::{Job, Shards, Take};
use crate::progress::Progress;

/// Longest pause between two looks into the folder.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Time without any worker after which a merge warns.
const MISSING: Duration = Duration::from_secs(10);

/// Workers that share a folder with this merge.
pub(crate) struct Folder {
    layout: Layout,
    beat: Option<Beat>,
    watch: Watch,
    shards: usize,
    /// Numbers of the first request of the current walk, and of the next request.
    first: u64,
    next: u64,
}

impl Folder {
    /// Workers that share the folder `path`, which is empty or does not exist yet.
    pub(crate) fn new(path: &Path) -> Folder {
        let layout = Layout::new(path);
        Folder { layout, beat: None, watch: Watch::new(MISSING), shards: 0, first: 0, next: 0 }
    }

    /// The reply of one shard to the request `number`.
    fn reply(&mut self, number: u64, shard: usize, progress: &dyn Progress) -> Result<Vec<u8>> {
        let mut pause = Duration::from_millis(2);
        let (mut alone, mut has_warned) = (Instant::now(), false);
        loop {
            progress.check()?;
            if let Some(reply) = layout::read(&self.layout.reply(number, shard))? {
                return Ok(reply);
            }
            if let Some(text) = layout::read(&self.layout.failed())? {
                let text = String::from_utf8_lossy(&text).into_owned();
                return Err(
                    Error::new(ErrorKind::Calibration, "a worker cannot go on").because(text)
                );
            }
            if !self.watch.alive(&self.layout.workers()).is_empty() {
                alone = Instant::now();
            } else if alone.elapsed() > MISSING && !has_warned {
                let folder = self.layout.root().display();
                progress.warn(&format!(
                    "there are no workers: start some with `onnx-zip worker --folder {folder}`"
                ));
                has_warned = true;
            }
            thread::sleep(pause);
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
}

impl Shards for Folder {
    fn start(&mut self, job: &Job<'_>, _: &dyn Progress) -> Result<()> {
        self.layout.make()?;
        self.shards = job.shards();
        self.beat = Some(Beat::start(self.layout.merge())?);
        open::begin(&self.layout);
        for shard in 0..self.shards {
            layout::write(&self.layout.shard(shard), &job.shard(shard)?)?;
        }
        // Written last: workers begin when they see this file.
        layout::write(&self.layout.nets(), job.nets())
    }

    fn ask(
        &mut self,
        request: Vec<u8>,
        begins: bool,
        take: &mut Take<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let number = self.next;
        if begins {
            for old in self.first..number {
                let _ = fs::remove_file(self.layout.request(old));
            }
            self.first = number;
        }
        if let Some(last) = number.checked_sub(1) {
            for shard in 0..self.shards {
                let _ = fs::remove_file(self.layout.reply(last, shard));
            }
        }
        layout::write(&self.layout.request(number), &request)?;
        self.layout.set_current(Current { first: self.first, last: number })?;
        self.next += 1;
        (0..self.shards).try_for_each(|shard| take(self.reply(number, shard, progress)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.beat.take().is_some() {
            open::end(&self.layout);
        }
    }
}
