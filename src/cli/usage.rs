//! Command lines that run no command: help, the version, and mistakes.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{ArgMatches, Command};

use crate::naming;

/// Ends the process with a code.
pub(super) type Exit = fn(i32) -> !;

/// Exit code of a mistake, and of help that cannot be printed.
const MISTAKEN: i32 = 2;

/// The parsed arguments, the first of which is the program. Prints help and mistakes, and ends the process
/// then.
pub(super) fn parsed(command_line: fn() -> Command, args: &[OsString], exit: Exit) -> ArgMatches {
    let parsed = command_line().try_get_matches_from(args);
    parsed.unwrap_or_else(|error| end(&readable(error, command_line, args), exit))
}

/// Prints help or a mistake, and ends the process. A closed pipe is no error.
pub(super) fn end(said: &clap::Error, exit: Exit) -> ! {
    let printed = said.print().and_then(|()| io::stdout().flush());
    let lost = printed.err().filter(|e| e.kind() != io::ErrorKind::BrokenPipe);
    match lost {
        Some(e) if !said.use_stderr() => {
            let _ = writeln!(io::stderr(), "error: cannot write to standard output ({e})");
            exit(MISTAKEN)
        }
        _ => exit(said.exit_code()),
    }
}

/// The same mistake with typed text on one line each, without control characters.
fn readable(error: clap::Error, command_line: fn() -> Command, args: &[OsString]) -> clap::Error {
    let shown = args.iter().map(|arg| naming::shown(&arg.to_string_lossy()).into_owned());
    let again = command_line().try_get_matches_from(shown).err();
    again.filter(|again| again.kind() == error.kind()).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::super::command_line;
    use super::*;

    /// What is said about these arguments.
    fn said(arguments: &[&str]) -> String {
        let args: Vec<OsString> =
            std::iter::once(&"onnx-zip").chain(arguments).map(OsString::from).collect();
        let error = command_line().try_get_matches_from(&args).unwrap_err();
        readable(error, command_line, &args).to_string()
    }

    #[test]
    fn typed_text_stays_on_its_line() {
        for value in ["a\nb", "a\r\u{1b}[2J", "\u{202e}x"] {
            let error = said(&["merge", "a", "b", "-o", "j", "--samples", value]);
            let first = error.lines().next().unwrap_or_default();
            assert!(first.contains("' for '--samples <"), "{error:?}");
            assert!(!error.contains(['\r', '\u{1b}', '\u{202e}']), "{error:?}");
        }
        let error = said(&["merge\nx"]);
        assert!(error.contains("'merge\\nx'"), "{error:?}");
    }

    #[test]
    fn other_mistakes_and_help_are_told_as_they_are() {
        let error = said(&["merge", "a", "b", "-o", "j", "--samples", "many"]);
        assert!(error.contains("invalid value 'many' for '--samples <"), "{error}");
        assert!(said(&["plan", "--help"]).contains("Usage:"));
    }
}
