//! Which runtime to use.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValue;
use clap::builder::PossibleValuesParser;

use super::console::Console;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::runtime::{self, Backend, Device, RuntimeChoice, RuntimeOptions};

/// The runtime that is always there.
const TRACT: &str = "tract";

const WITHOUT_ORT: &str = "ONNX Runtime's library was not found, so tract computes, which takes longer; \
    name the library with --runtime-library, or ask for --runtime tract";

/// Which runtime to use.
#[derive(Args)]
#[command(next_help_heading = "Runtime")]
pub(super) struct RuntimeArgs {
    /// Inference runtime
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = runtimes())]
    runtime: String,
    /// Device to compute on: auto, cpu, cuda or cuda:N; auto takes CUDA where it works
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// ONNX Runtime's shared library, or a folder that holds it
    ///
    /// [default: what ORT_DYLIB_PATH names, else it is looked for beside the program, in
    /// .onnxruntime/, in Python's packages and in the system's library folders]
    #[arg(long, value_name = "PATH")]
    runtime_library: Option<PathBuf>,
    /// Samples per batch, where a model does not fix it
    #[arg(long, value_name = "N", default_value_t = 128,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 20))]
    pub(super) batch: usize,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    threads: Option<usize>,
}

fn runtimes() -> PossibleValuesParser {
    PossibleValuesParser::new([
        PossibleValue::new("auto").help("ONNX Runtime where its library is found, else tract"),
        PossibleValue::new("ort").help("ONNX Runtime"),
        PossibleValue::new("tract").help("tract, which is part of this program"),
    ])
}

impl RuntimeArgs {
    /// The runtime for calibration; sets the number of threads of the whole process. Says so where it is
    /// not the one that everybody expects.
    ///
    /// # Errors
    /// As [`runtime::open`].
    pub(super) fn open(&self, console: &Console) -> Result<Arc<dyn Backend>> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|e| {
                Error::new(ErrorKind::Usage, format!("cannot start {threads} threads")).because(e)
            })?;
        }
        let options = self.options()?;
        let backend = runtime::open(&options)?;
        if options.choice == RuntimeChoice::Auto && backend.name() == TRACT {
            console.warn(WITHOUT_ORT);
        }
        if let Some(reason) = backend.passed_over() {
            console.note(&format!("the CPU computes: {reason}"));
        }
        Ok(backend)
    }

    /// The runtimes to verify in: that of calibration and, where none was asked for, tract.
    ///
    /// # Errors
    /// As [`runtime::open`].
    pub(super) fn all(&self, first: &Arc<dyn Backend>) -> Result<Vec<Arc<dyn Backend>>> {
        let mut all = vec![Arc::clone(first)];
        let options = self.options()?;
        if options.choice == RuntimeChoice::Auto && first.name() != TRACT {
            let choice = RuntimeChoice::Tract;
            all.push(runtime::open(&RuntimeOptions { choice, device: Device::Cpu, ..options })?);
        }
        Ok(all)
    }

    fn options(&self) -> Result<RuntimeOptions> {
        Ok(RuntimeOptions {
            choice: self.runtime.parse()?,
            device: self.device,
            library: self.runtime_library.clone(),
            threads: self.threads,
        })
    }
}
