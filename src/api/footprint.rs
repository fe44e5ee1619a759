//! Measures the memory of loading models in a separate process.
//!
//! The peak of a process never falls, so the peak of the merging process says nothing about the joint
//! model.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::options::RuntimeOptions;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::progress::Progress;

/// Name of the hidden command that measures.
const COMMAND: &str = "footprint";

/// Time limit of the process.
const LONGEST: Duration = Duration::from_secs(120);

/// Interval between checks for the end of the process and for cancellation.
const GLANCE: Duration = Duration::from_millis(10);

/// Peak memory in bytes of a process that loads models on one thread of a runtime; `None` if
/// `program` cannot be run or the platform does not report the peak.
///
/// # Errors
/// [`ErrorKind::Backend`] where loading does not end; [`ErrorKind::Interrupted`].
pub(crate) fn of(
    program: &[OsString],
    models: &[&Path],
    runtime: &RuntimeOptions,
    name: &str,
    progress: &dyn Progress,
) -> Result<Option<u64>> {
    let Some((program, arguments)) = program.split_first() else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(arguments).arg(COMMAND).args(runtime.arguments(name)).arg("--").args(models);
    let told = answer(&mut command, LONGEST, progress)?;
    Ok(told.and_then(|told| serde_json::from_slice::<Option<u64>>(&told).ok().flatten()))
}

/// The output of a process, which must fit into a pipe; `None` if it does not start or fails. Kills a
/// process that exceeds the time limit or is cancelled.
fn answer(
    command: &mut Command,
    longest: Duration,
    progress: &dyn Progress,
) -> Result<Option<Vec<u8>>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Ok(None) };
    let start = Instant::now();
    loop {
        let given_up = match child.try_wait() {
            Ok(None) if start.elapsed() >= longest => Some(Err(endless(longest))),
            Ok(None) => progress.check().err().map(Err),
            Ok(Some(_)) => break,
            Err(_) => Some(Ok(None)),
        };
        if let Some(outcome) = given_up {
            let _ = child.kill();
            let _ = child.wait();
            return outcome;
        }
        thread::sleep(GLANCE);
    }
    let output = child.wait_with_output().ok().filter(|output| output.status.success());
    Ok(output.map(|output| output.stdout))
}

fn endless(longest: Duration) -> Error {
    let message = format!("loading the models has not ended after {} s", longest.as_secs());
    Error::new(ErrorKind::Backend, message)
        .hint(Hint::from("leave out the comparison: ").option("no-compare"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// A user who has pressed Ctrl-C.
    struct Impatient;

    impl Progress for Impatient {
        fn begin(&self, _: &str, _: u64) {}

        fn step(&self) {}

        fn note(&self, _: &str) {}

        fn stopped(&self) -> bool {
            true
        }
    }

    fn sleeping() -> Command {
        let mut command = Command::new("sleep");
        command.arg("1000");
        command
    }

    #[test]
    fn a_process_that_does_not_end_is_killed() {
        let start = Instant::now();
        let short = Duration::from_millis(50);
        let error = answer(&mut sleeping(), short, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
        let error = answer(&mut sleeping(), LONGEST, &Impatient).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(start.elapsed() < LONGEST);
    }

    #[test]
    fn only_a_process_that_ends_well_is_believed() {
        let said = |script: &str| {
            let mut command = Command::new("sh");
            answer(command.args(["-c", script]), LONGEST, &Silent).unwrap()
        };
        assert_eq!(said("printf 17"), Some(b"17".to_vec()));
        assert_eq!(said("printf 17; exit 1"), None);
        assert_eq!(answer(&mut Command::new("/no/such/program"), LONGEST, &Silent).unwrap(), None);
    }
}
