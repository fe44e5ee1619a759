//! The command line: parsed arguments → validated arguments → run.

mod calibrate;
mod completions;
mod console;
mod extract;
mod fix;
mod footprint;
mod frontier;
mod idle;
mod import;
mod inputs;
mod inspect;
mod keywords;
mod merge;
mod plan;
mod printing;
mod prune;
mod replay;
mod reports;
mod retrain;
mod split;
mod stop;
mod strip;
mod usage;
mod verify;
mod worker;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, ErrorKind, Result};
use crate::zipper::PlanFile;
use console::Console;
pub use keywords::{Keyword, Repeated, keywords, options, options_and_plan, repeated};
pub use replay::Beside;
use replay::{Expanded, typed_options};

/// Merge pre-trained ONNX models into one smaller multi-task model
///
/// Similar neurons of several models are stored once (Multi-Task Zipping). The joint model computes
/// every task, in one run or one at a time, and needs no retraining.
#[derive(Parser)]
#[command(name = "onnx-zip", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip plan a.onnx b.onnx                        what could be shared, without any data
  onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --scale 1/255
  onnx-zip frontier a.onnx b.onnx --data images.npz --scale 1/255 --report curve.html
  onnx-zip verify joint.onnx a.onnx b.onnx --data test.npz --scale 1/255
  onnx-zip extract joint.onnx --task a -o a_again.onnx

Exit codes: 0 done, 1 verification failed or --require not met, 2 error, 130 stopped by Ctrl-C.";

/// Verbosity.
#[derive(Args)]
struct Verbosity {
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 900)]
    quiet: bool,
    /// Print every layer and every note
    #[arg(short, long, global = true, display_order = 901)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    Merge(Box<merge::MergeArgs>),
    Plan(plan::PlanArgs),
    Frontier(Box<frontier::FrontierArgs>),
    Inspect(inspect::InspectArgs),
    Fix(fix::FixArgs),
    Prune(Box<prune::PruneArgs>),
    Calibrate(calibrate::CalibrateArgs),
    Verify(verify::VerifyArgs),
    Extract(extract::ExtractArgs),
    Split(split::SplitArgs),
    Strip(strip::StripArgs),
    Retrain(Box<retrain::RetrainArgs>),
    Import(import::ImportArgs),
    Worker(worker::WorkerArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Footprint(footprint::FootprintArgs),
}

/// The command line. After an option, a number below zero is its value, so that its own message tells what it
/// takes.
fn command_line() -> clap::Command {
    let signed = |arg: Arg| {
        let takes = arg.get_action().takes_values() && !arg.is_positional();
        if takes { arg.allow_negative_numbers(true) } else { arg }
    };
    Cli::command().mut_subcommands(|command| command.mut_args(signed))
}

/// The status of a finished command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Success.
    Done,
    /// The command ran, but a verification failed.
    VerificationFailed,
    /// The command ran, but its result does not meet a requirement.
    RequirementUnmet,
}

impl Status {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::VerificationFailed | Status::RequirementUnmet => 1,
        }
    }
}

/// The exit code of the process for an error.
pub fn error_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Interrupted => 130,
        _ => 2,
    }
}

/// Ends the process of a command: prints its error, and exits with its code. All files are in place, and all
/// temporary ones removed, when a command returns.
pub fn end(result: Result<Status>) -> ! {
    let code = match result {
        Ok(status) => status.code(),
        Err(error) => {
            // If standard error cannot be written, the exit code must do.
            let _ = writeln!(io::stderr(), "error: {}", error.with_flags());
            error_code(&error)
        }
    };
    stop::exit(code.into())
}

/// Parses and runs a command line, whose first argument is the program. Prints help and ends the
/// process if help is asked for or arguments do not parse.
///
/// # Errors
/// Those of the command.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Status> {
    let program = std::env::current_exe().into_iter().map(Into::into).collect();
    run_until(stop::exit, program, args)
}

/// [`run`], where `program` is the command that starts this process.
///
/// # Errors
/// As [`run`].
pub fn run_as(program: Vec<OsString>, args: impl IntoIterator<Item = OsString>) -> Result<Status> {
    run_until(std::process::exit, program, args)
}

/// [`run_as`], where `exit` ends the process.
fn run_until(
    exit: usage::Exit,
    program: Vec<OsString>,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Status> {
    let Expanded { args, plan } = replay::expand(args.into_iter().collect())?;
    let matches = usage::parsed(command_line, &args, exit);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| usage::end(&error, exit));
    let options = matches.subcommand().map(|(_, own)| typed_options(own)).unwrap_or_default();
    let typed = PlanFile { options, ..PlanFile::default() };
    stop::install()?;
    let console = Console::new(cli.verbosity.quiet, cli.verbosity.verbose);
    match cli.command {
        Command::Merge(args) => args.run(program, plan, typed, &console),
        Command::Plan(args) => args.run(),
        Command::Frontier(args) => args.run(&typed, &console),
        Command::Inspect(args) => args.run(),
        Command::Fix(args) => args.run(&console),
        Command::Prune(args) => args.run(&console),
        Command::Calibrate(args) => args.run(&console),
        Command::Verify(args) => args.run(&console),
        Command::Extract(args) => args.run(&console),
        Command::Split(args) => args.run(&console),
        Command::Strip(args) => args.run(&console),
        Command::Retrain(args) => args.run(&console),
        Command::Import(args) => args.run(&console),
        Command::Worker(args) => args.run(&console),
        Command::Completions(args) => args.run(),
        Command::Footprint(args) => args.run(&console),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    /// What parsing these arguments ends with; empty where they are understood.
    fn fault(arguments: &[&str]) -> String {
        let all = std::iter::once(&"onnx-zip").chain(arguments);
        command_line().try_get_matches_from(all).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn numbers_below_zero_are_values_of_their_options() {
        let merge = |more: &[&str]| fault(&[&["merge", "a", "b", "-o", "j"], more].concat());
        for option in ["--share", "--samples", "--max-drop", "--seed", "--round"] {
            let said = merge(&[option, "-1"]);
            assert!(said.contains(&format!("invalid value '-1' for '{option} <")), "{said}");
        }
        for (option, value) in [("--std", "-1,2"), ("--alpha", "-1,2"), ("--damping", "-1")] {
            assert_eq!(merge(&[option, value]), "");
        }
        assert_eq!(fault(&["verify", "j", "a", "--tolerance", "-1", "--max-drop", "-1"]), "");
        assert_eq!(fault(&["retrain", "j", "-o", "k", "--weights", "-1,2"]), "");
        assert!(merge(&["-1"]).contains("unexpected argument"));
    }

    #[test]
    fn reports_end_in_a_format_that_the_command_writes() {
        for (file, is_known) in [("r.json", true), ("r.html", false), ("json", false)] {
            let said = fault(&["retrain", "j", "-o", "k", "--report", file]);
            assert_eq!(said.contains("the name of a report ends in .json"), !is_known, "{said}");
        }
    }

    #[test]
    fn every_flag_says_what_it_is() {
        let command = Cli::command();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for arg in sub.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", sub.get_name(), arg.get_id());
            }
        }
    }
}
