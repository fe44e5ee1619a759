//! Results on standard output.

use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::naming;
use crate::staging::{Target, is_stdout, resolve};

/// Prints a result. A closed pipe is no error.
///
/// # Errors
/// [`ErrorKind::Io`] where standard output cannot be written.
pub(crate) fn print(text: &str) -> Result<()> {
    print_to(&mut io::stdout().lock(), text)
}

/// Prints a text beside the result in `output`: to standard error if `output` is standard output.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_beside(output: &Path, text: &str) -> Result<()> {
    let is_stream = matches!(resolve(output), Ok(Target::Stream(_)));
    match is_stream && is_stdout(output) {
        true => print_to(&mut io::stderr().lock(), text),
        false => print(text),
    }
}

fn print_to(out: &mut dyn Write, text: &str) -> Result<()> {
    match out.write_all(naming::lines(text).as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, "cannot write to standard output").because(e))
        }
        _ => Ok(()),
    }
}
