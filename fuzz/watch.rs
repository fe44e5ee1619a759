//! Runs cases, within bounds of number, time and memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Default number of cases per target.
const CASES: u32 = 150;

/// Time limit of one case. It is generous, since the machine may be busy with other tests.
const LONGEST: Duration = Duration::from_secs(10);

/// Limit of the process's peak memory in bytes after a case.
const MOST_MEMORY: u64 = 2 << 30;

/// Runs a target on changes from `cases`.
pub fn fuzz<S: Strategy>(target: &str, cases: S, run: impl Fn(&S::Value))
where
    S::Value: std::fmt::Debug,
{
    let minutes = std::env::var("ONNX_ZIP_FUZZ_MINUTES").ok().and_then(|m| m.parse::<f64>().ok());
    let end = Instant::now() + Duration::from_secs_f64(60.0 * minutes.unwrap_or(0.0));
    let mut round = 0;
    loop {
        let start = if minutes.is_some() { started() } else { 0 };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(start + round).to_le_bytes());
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let outcome = runner.run(&cases, |case| {
            run(&case);
            Ok(())
        });
        if let Err(TestError::Fail(reason, case)) = outcome {
            // Runs the smallest case again, so that its file stays.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&case)));
            panic!("{target}: {reason}\n{case:#?}\nsee {}", place(target).display());
        }
        round += 1;
        if Instant::now() >= end {
            println!("{target}: {} cases", round * u64::from(CASES));
            return;
        }
    }
}

/// Runs one case, and asserts that it ends within the bounds of time and memory. Writes its input into a
/// file first, in case it crashes the process.
pub fn within_bounds(target: &str, bytes: &[u8], case: impl FnOnce()) {
    let place = place(target);
    fs::create_dir_all(place.parent().unwrap_or(Path::new("."))).expect("a folder for cases");
    fs::write(&place, bytes).expect("the case is kept");
    // Resets the peak of earlier cases.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    case();
    let taken = start.elapsed();
    assert!(taken < LONGEST, "it takes {taken:?}");
    let peak = peak_memory().unwrap_or(0);
    assert!(peak < MOST_MEMORY, "it takes {peak} bytes");
}

/// The peak memory of the process, if the system reports it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

fn place(target: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target)
}

/// The number of the first round: `ONNX_ZIP_FUZZ_SEED`, or one that differs from run to run.
fn started() -> u64 {
    let named = std::env::var("ONNX_ZIP_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    if let Some(seed) = named {
        return seed;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64)
}
