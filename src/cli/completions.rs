//! `completions`: scripts that let a shell complete commands and flags.

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Status, printing};
use crate::error::Result;

/// The program.
const NAME: &str = "onnx-zip";

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
        clap_complete::generate(self.shell, &mut shown(), NAME, &mut script);
        let script = String::from_utf8_lossy(&script);
        printing::print(&match self.shell {
            Shell::Bash => with_labels(&script),
            _ => script.into_owned(),
        })?;
        Ok(Status::Done)
    }
}

/// The command line without its hidden commands.
fn shown() -> Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let shown = Command::new(NAME).subcommands(shown).args(all.get_arguments().cloned());
    shown.version(env!("CARGO_PKG_VERSION")).propagate_version(true)
}

/// A script for bash whose labels of commands are those that it looks for. The generator takes the hyphen of the
/// program's name for a border between commands in labels only.
fn with_labels(script: &str) -> String {
    let label = |border: &str| format!("{}__subcmd__", NAME.replace('-', border));
    script.replace(&label("__subcmd__"), &label("__"))
}
