//! `footprint`: what loading models costs in memory, told by a process of its own.
//!
//! The peak of a process never falls again, so that of a merge says nothing about its result.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::console::Console;
use super::runtime::RuntimeArgs;
use super::{Status, output};
use crate::compare::growth;
use crate::error::Result;
use crate::runtime::ModelSource;

/// Name of the command.
const NAME: &str = "footprint";

/// Print by how many bytes loading models lets the peak of this process's memory grow
#[derive(Args)]
pub(super) struct FootprintArgs {
    /// The models
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

impl FootprintArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let backend = self.runtime.open(console)?;
        let sources: Vec<ModelSource<'_>> =
            self.models.iter().map(|path| ModelSource::File(path)).collect();
        output::print(&output::json(&growth(backend.as_ref(), &sources)?)?)?;
        Ok(Status::Done)
    }
}

/// Bytes that a process needs at its peak to load models on one thread of a runtime; `None` where this
/// program cannot run itself or the platform does not tell.
pub(super) fn of(models: &[&Path], runtime: &RuntimeArgs, name: &str) -> Option<u64> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg(NAME).args(runtime.arguments(name)).arg("--").args(models);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    serde_json::from_slice::<Option<u64>>(&output.stdout).ok().flatten()
}
