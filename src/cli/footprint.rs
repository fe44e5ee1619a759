//! `footprint`: measures the memory of loading models in this process.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::{Status, printing};
use crate::api::options::RuntimeOptions;
use crate::api::output;
use crate::compare::growth;
use crate::error::Result;
use crate::runtime::ModelSource;

/// Print the growth in bytes of this process's peak memory by loading models
#[derive(Args)]
pub(super) struct FootprintArgs {
    /// The models
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

impl FootprintArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let backend = self.runtime.open(console)?;
        let sources: Vec<ModelSource<'_>> =
            self.models.iter().map(|path| ModelSource::File(path)).collect();
        printing::print(&output::json(&growth(backend.as_ref(), &sources)?)?)?;
        Ok(Status::Done)
    }
}
