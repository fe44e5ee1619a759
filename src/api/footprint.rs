//! What loading models costs in memory, told by a process of its own.
//!
//! The peak of a process never falls again, so that of a merge says nothing about its result.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use super::options::RuntimeOptions;

/// Name of the command that tells it.
pub(crate) const COMMAND: &str = "footprint";

/// Bytes that a process needs at its peak to load models on one thread of a runtime; `None` where
/// `program` cannot be run or the platform does not tell.
pub(crate) fn of(
    program: &[OsString],
    models: &[&Path],
    runtime: &RuntimeOptions,
    name: &str,
) -> Option<u64> {
    let (program, arguments) = program.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).arg(COMMAND).args(runtime.arguments(name)).arg("--").args(models);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    serde_json::from_slice::<Option<u64>>(&output.stdout).ok().flatten()
}
