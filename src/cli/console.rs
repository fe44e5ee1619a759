//! Progress on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::stop;
use crate::error::Hint;
use crate::naming::sentence;
use crate::progress::Progress;

/// Interval of progress lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of the current command: a bar on a terminal, lines elsewhere.
pub(super) struct Console {
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    terminal: bool,
    stage: Mutex<Stage>,
}

struct Stage {
    name: String,
    bar: ProgressBar,
    said: Instant,
}

impl Console {
    pub(super) fn new(quiet: bool, verbose: bool) -> Self {
        let stage = Stage { name: String::new(), bar: ProgressBar::hidden(), said: Instant::now() };
        let terminal = io::stderr().is_terminal();
        Console { quiet, verbose, terminal, stage: Mutex::new(stage) }
    }

    /// A failed verification or requirement; printed even with --quiet.
    pub(super) fn fail(&self, message: &str) {
        self.line(&format!("FAILED: {message}"));
    }

    /// Removes the bar at the end of all stages.
    pub(super) fn finish(&self) {
        self.stage().bar.finish_and_clear();
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line above the bar. Errors of writing are ignored.
    fn line(&self, text: &str) {
        self.stage().bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{}", sentence(text));
        });
    }
}

impl Progress for Console {
    fn begin(&self, stage: &str, steps: u64) {
        if self.quiet {
            return;
        }
        if !self.terminal {
            self.line(stage);
        }
        let mut current = self.stage();
        current.bar.finish_and_clear();
        let bar = if self.terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        bar.set_length(steps);
        bar.set_style(style());
        bar.set_message(stage.to_owned());
        *current = Stage { name: stage.to_owned(), bar, said: Instant::now() };
    }

    fn step(&self) {
        let mut stage = self.stage();
        stage.bar.inc(1);
        if self.quiet || self.terminal || stage.said.elapsed() < LINE_EVERY {
            return;
        }
        stage.said = Instant::now();
        let all = stage.bar.length().unwrap_or(0).max(1);
        let line = format!("{}: {} %", stage.name, 100 * stage.bar.position() / all);
        drop(stage);
        self.line(&line);
    }

    fn status(&self, message: &str) {
        if !self.quiet {
            self.line(message);
        }
    }

    fn note(&self, message: &str) {
        if !self.quiet {
            self.line(&format!("note: {message}"));
        }
    }

    fn warn(&self, message: &str) {
        if !self.quiet {
            self.line(&format!("WARNING: {message}"));
        }
    }

    fn fault(&self, message: &str) {
        self.line(&format!("error: {message}"));
    }

    fn worded(&self, remark: &Hint) -> String {
        remark.in_flags()
    }

    fn stopped(&self) -> bool {
        stop::stopped()
    }
}

fn style() -> ProgressStyle {
    let template = "{msg:>14} {bar:40} {percent:>3} %  {elapsed} / {duration}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
