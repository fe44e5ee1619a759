//! The command-line tool; see `onnx-zip help`.

use std::io::{self, Write};
use std::process::ExitCode;

use onnx_zip::cli;

fn main() -> ExitCode {
    ExitCode::from(match cli::run(std::env::args_os()) {
        Ok(status) => status.code(),
        Err(error) => {
            // If standard error cannot be written, the exit code must do.
            let _ = writeln!(io::stderr(), "error: {}", error.with_flags());
            cli::error_code(&error)
        }
    })
}
