//! The command-line tool; see `onnx-zip help`.

use onnx_zip::cli;

fn main() {
    cli::end(cli::run(std::env::args_os()))
}
