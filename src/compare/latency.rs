//! Measures the time of one run of all tasks, in alternating rounds.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Original;
use super::feeds::{Feed, Feeds};
use crate::error::{Context, Result};
use crate::progress::Progress;
use crate::runtime::{Backend, ModelSource, Session, feeds};

/// A joint model counts as slower only beyond this relative difference.
pub const TOLERANCE: f64 = 0.02;

/// Time spent on rounds, without warm-up.
const ENOUGH: Duration = Duration::from_millis(300);

/// Time after which rounds end even if there were fewer than [`FEWEST_ROUNDS`].
const MOST: Duration = Duration::from_secs(2);

const FEWEST_ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 200;

/// Seconds of one run of all tasks, on one thread with a batch of one: those of the round that has the median of the
/// ratio, so that the numbers fit each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The runtime, with version and device.
    pub runtime: String,
    /// Number of rounds.
    pub rounds: usize,
    /// Of the joint model.
    pub joint: f64,
    /// Of each original.
    pub originals: Vec<f64>,
    /// The joint model over all originals: the median over all rounds, the upper one of two.
    pub ratio: f64,
    /// Whether the ratio is above 1 + [`TOLERANCE`] in three rounds of four at least.
    pub slower: bool,
}

/// A loaded model with its inputs for one run of all tasks.
struct Runner<'a> {
    session: Box<dyn Session>,
    runs: &'a [Feed],
}

impl Runner<'_> {
    /// Seconds of one run of all tasks.
    fn run(&mut self) -> Result<f64> {
        let start = Instant::now();
        for feed in self.runs {
            self.session.run(&feeds(feed))?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Runs the joint model and its originals in turn.
///
/// # Errors
/// As [`Backend::load`] and [`Session::run`]; [`crate::error::ErrorKind::Interrupted`].
pub(super) fn measure(
    joint: &Path,
    originals: &[Original<'_>],
    feeds: &Feeds,
    backend: &dyn Backend,
    progress: &dyn Progress,
) -> Result<Latency> {
    let load = |source| backend.load(source);
    let session = load(ModelSource::File(joint)).in_model(joint.display())?;
    let mut runners = vec![Runner { session, runs: &feeds.joint }];
    for (original, feed) in originals.iter().zip(&feeds.originals) {
        let session = load(original.source)?;
        runners.push(Runner { session, runs: std::slice::from_ref(feed) });
    }
    for runner in &mut runners {
        runner.run()?;
    }
    Ok(summary(backend.describe(), &rounds(&mut runners, progress)?))
}

/// Seconds of every runner in every round. The order is reversed from round to round.
fn rounds(runners: &mut [Runner<'_>], progress: &dyn Progress) -> Result<Vec<Vec<f64>>> {
    let mut rounds = Vec::new();
    let start = Instant::now();
    loop {
        progress.check()?;
        let mut seconds = vec![0.0; runners.len()];
        let turns = runners.iter_mut().zip(&mut seconds);
        match rounds.len() % 2 {
            0 => turns.into_iter().try_for_each(|turn| take(turn))?,
            _ => turns.rev().try_for_each(|turn| take(turn))?,
        }
        rounds.push(seconds);
        let spent = start.elapsed();
        let done = spent >= ENOUGH && rounds.len() >= FEWEST_ROUNDS;
        if done || spent >= MOST || rounds.len() >= MOST_ROUNDS {
            return Ok(rounds);
        }
    }
}

fn take((runner, seconds): (&mut Runner<'_>, &mut f64)) -> Result<()> {
    *seconds = runner.run()?;
    Ok(())
}

/// Evaluates rounds; the first column is the joint model's.
fn summary(runtime: String, rounds: &[Vec<f64>]) -> Latency {
    let mut measured: Vec<(f64, f64, &[f64])> = rounds
        .iter()
        .filter_map(|round| {
            let (joint, originals) = round.split_first()?;
            let ratio = joint / originals.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            Some((ratio, *joint, originals))
        })
        .collect();
    measured.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let slow = measured.iter().filter(|(ratio, ..)| *ratio > 1.0 + TOLERANCE).count();
    let (ratio, joint, originals) = measured.get(measured.len() / 2).copied().unwrap_or_default();
    Latency {
        runtime,
        rounds: rounds.len(),
        joint,
        originals: originals.to_vec(),
        ratio,
        slower: slow > 0 && 4 * slow >= 3 * rounds.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_round_with_the_median_ratio() {
        // Medians of each column by itself are 7 and 4, of which the ratio is none of any round.
        let rounds = [vec![7.0, 8.0, 6.0], vec![9.0, 3.0, 1.0], vec![1.0, 1.0, 1.0]];
        let found = summary(String::new(), &rounds);
        assert_eq!((found.joint, found.originals, found.ratio), (1.0, vec![1.0, 1.0], 0.5));
        let none = summary(String::new(), &[]);
        assert_eq!((none.joint, none.ratio, none.slower), (0.0, 0.0, false));
    }

    #[test]
    fn slower_is_what_most_rounds_say() {
        let of = |joint: [f64; 4]| {
            let rounds: Vec<Vec<f64>> = joint.iter().map(|s| vec![*s, 0.4, 0.6]).collect();
            summary(String::new(), &rounds)
        };
        let steady = of([1.1, 1.03, 1.2, 0.9]);
        assert!(steady.slower && (steady.ratio - 1.1).abs() < 1e-9);
        assert_eq!(steady.originals, [0.4, 0.6]);
        assert!(!of([1.019, 1.019, 1.019, 5.0]).slower);
        assert!(!of([1.1, 1.1, 0.9, 0.9]).slower);
    }
}
