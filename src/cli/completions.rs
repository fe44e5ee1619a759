//! `completions`: scripts that let a shell complete commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Status, printing};
use crate::error::Result;

/// Print a script that completes commands and flags in a shell
///
/// Example for bash: onnx-zip completions bash > ~/.local/share/bash-completion/completions/onnx-zip
#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> Result<Status> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "onnx-zip", &mut script);
        printing::print(&String::from_utf8_lossy(&script))?;
        Ok(Status::Done)
    }
}
