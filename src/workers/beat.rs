//! Heartbeats, by which processes see that others are alive.
//!
//! Each process writes a growing number into a file of its own. Others watch it change, so the clocks of
//! machines need not agree.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::layout;
use crate::error::{Error, ErrorKind, Result};

/// Interval of heartbeats.
const EVERY: Duration = Duration::from_millis(500);

/// The heartbeat of this process; dropping it stops the beat and removes the file.
pub(super) struct Beat {
    path: PathBuf,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Beat {
    /// Begins to beat in the file `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be written, or where the system allows no more threads.
    pub(super) fn start(path: PathBuf) -> Result<Beat> {
        layout::write(&path, b"0")?;
        let (stop, stopped) = mpsc::channel::<()>();
        let file = path.clone();
        let beating = thread::Builder::new().spawn(move || {
            let mut number = 0u64;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                number += 1;
                // One missed beat is harmless; others notice when many are missing.
                let _ = layout::write(&file, number.to_string().as_bytes());
            }
        });
        // Without its thread, dropping it removes the file.
        let mut beat = Beat { path, stop: Some(stop), thread: None };
        beat.thread = Some(beating.map_err(|e| {
            Error::new(ErrorKind::Io, "cannot start a thread for heartbeats")
                .because(e)
                .hint("allow more processes or more memory")
        })?);
        Ok(beat)
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
        let _ = fs::remove_file(&self.path);
    }
}

/// Watches the heartbeats of other processes.
pub(super) struct Watch {
    patience: Duration,
    seen: HashMap<PathBuf, (Vec<u8>, Instant)>,
}

impl Watch {
    /// Counts a process as dead after `patience` without a new heartbeat.
    pub(super) fn new(patience: Duration) -> Watch {
        Watch { patience, seen: HashMap::new() }
    }

    /// Whether the process with this heartbeat file is alive.
    pub(super) fn is_alive(&mut self, path: &Path) -> bool {
        let Ok(now) = fs::read(path) else {
            self.seen.remove(path);
            return false;
        };
        let seen =
            self.seen.entry(path.to_owned()).or_insert_with(|| (now.clone(), Instant::now()));
        if seen.0 != now {
            *seen = (now, Instant::now());
        }
        seen.1.elapsed() < self.patience
    }

    /// The names of all live processes with a heartbeat file in `folder`, sorted.
    pub(super) fn alive(&mut self, folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.ends_with(".part")).collect();
        names.retain(|name| self.is_alive(&folder.join(name)));
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_for_long_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let (own, dead) = (folder.path().join("own"), folder.path().join("dead"));
        let beat = Beat::start(own.clone()).unwrap();
        fs::write(&dead, "17").unwrap();
        let mut watch = Watch::new(3 * EVERY);
        assert_eq!(watch.alive(folder.path()), ["dead", "own"]);
        for _ in 0..8 {
            thread::sleep(EVERY / 2);
            assert!(watch.is_alive(&own));
            watch.is_alive(&dead);
        }
        assert_eq!(watch.alive(folder.path()), ["own"]);
        drop(beat);
        assert!(!watch.is_alive(&own));
    }
}
