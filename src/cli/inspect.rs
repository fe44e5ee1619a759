//! `inspect`: shows one model's layers and shareable channels.

use std::path::PathBuf;

use clap::Args;

use super::{Status, printing};
use crate::api::{inspect, output};
use crate::error::Result;

/// Show the layers of one model and the channels that can be shared
///
/// Shows the canonical model that a merge works on: BatchNorm is folded into the previous layer,
/// MatMul and Add become Gemm, and so on. Channels of a group are paired together, for example those
/// of a residual stream.
#[derive(Args)]
pub(super) struct InspectArgs {
    /// The model, as an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl InspectArgs {
    pub(super) fn run(self) -> Result<Status> {
        let report = inspect(&self.model.into())?;
        printing::print(&if self.json { output::json(&report)? } else { report.text() })?;
        Ok(Status::Done)
    }
}
