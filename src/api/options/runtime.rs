//! Which runtime to use.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "cli")]
use super::parse::choices;
use crate::calib::memory;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::progress::Progress;
use crate::runtime::{self, Backend, Device, RuntimeChoice};

/// The built-in runtime.
const TRACT: &str = "tract";

/// Bytes of the stack of a thread, and of that of its signals.
const STACK: usize = (2 << 20) + (64 << 10);

/// The warning that tract computes in place of ONNX Runtime.
fn without_ort() -> Hint {
    Hint::from(
        "ONNX Runtime's library was not found, so tract computes, which takes longer; it is in the Python \
         package onnxruntime (pip install onnxruntime); name it with ",
    )
    .option("runtime-library")
    .then(", or ask for ")
    .option_as("runtime", TRACT)
}

/// Which runtime to use.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Runtime"))]
#[non_exhaustive]
pub struct RuntimeOptions {
    /// Inference runtime
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "NAME", default_value = "auto", value_parser = choices(RUNTIMES)))]
    pub runtime: RuntimeChoice,
    /// Device to compute on: auto, cpu, cuda or cuda:N; auto takes CUDA where it works
    #[cfg_attr(feature = "cli", arg(long, value_name = "DEVICE", default_value = "auto"))]
    pub device: Device,
    /// ONNX Runtime's shared library, or a folder that contains it
    ///
    /// [default: ORT_DYLIB_PATH, else searched beside the program, in .onnxruntime/, in Python's
    /// packages and in the system's library folders]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub runtime_library: Option<PathBuf>,
    /// Samples per batch, unless a model fixes it
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", default_value_t = 128,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 20)))]
    pub batch: usize,
    /// Number of threads [default: one per core]
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096)))]
    pub threads: Option<usize>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions {
            runtime: RuntimeChoice::default(),
            device: Device::default(),
            runtime_library: None,
            batch: 128,
            threads: None,
        }
    }
}

#[cfg(feature = "cli")]
const RUNTIMES: [(&str, RuntimeChoice, &str); 3] = [
    ("auto", RuntimeChoice::Auto, "ONNX Runtime if its library is found, else tract"),
    ("ort", RuntimeChoice::Ort, "ONNX Runtime"),
    ("tract", RuntimeChoice::Tract, "tract, which is built in"),
];

impl RuntimeOptions {
    /// Opens the runtime for calibration, and sets the number of threads of the process. Reports a
    /// fallback to another runtime.
    ///
    /// # Errors
    /// As [`runtime::open`].
    pub(crate) fn open(&self, progress: &dyn Progress) -> Result<Arc<dyn Backend>> {
        self.start_threads()?;
        let options = self.opening();
        let backend = runtime::open(&options)?;
        if options.choice == RuntimeChoice::Auto && backend.name() == TRACT {
            progress.warn(&progress.worded(&without_ort()));
        }
        if let Some(reason) = backend.passed_over() {
            progress.note(&format!("the CPU computes: {reason}"));
        }
        Ok(backend)
    }

    /// Starts the threads, as many as there are cores if no number is given: a pool that starts by itself ends the
    /// process if it cannot. A process has one pool, so asking for the same number again is no error.
    fn start_threads(&self) -> Result<()> {
        // 0 stands for the number of cores.
        let threads = self.threads.unwrap_or(0);
        let message = match self.threads {
            Some(threads) => format!("cannot start {threads} threads"),
            None => "cannot start a thread per core".to_owned(),
        };
        let refused = |because: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Memory, message.clone())
                .because(because)
                .hint(Hint::from("allow more processes or memory, or fewer ").option("threads"))
        };
        // A thread that finds room for its stack but none for that of its signals ends the process.
        memory::try_blocks(threads, STACK).map_err(|e| refused(e.into()))?;
        match rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() {
            Ok(()) => Ok(()),
            // The system refuses threads. Asking the pool for their number would end the process.
            Err(e) if e.source().is_some() => Err(refused(e.into())),
            Err(_) if self.threads.is_none_or(|n| rayon::current_num_threads() == n) => Ok(()),
            Err(e) => Err(Error::new(ErrorKind::Usage, message).because(e)),
        }
    }

    /// The runtimes for verification: that of calibration, and tract unless the user chose a runtime.
    ///
    /// # Errors
    /// As [`runtime::open`].
    pub(crate) fn all(&self, first: &Arc<dyn Backend>) -> Result<Vec<Arc<dyn Backend>>> {
        let mut all = vec![Arc::clone(first)];
        let options = self.opening();
        let has_tract = cfg!(feature = "tract");
        if has_tract && options.choice == RuntimeChoice::Auto && first.name() != TRACT {
            let choice = RuntimeChoice::Tract;
            let device = Device::Cpu;
            all.push(runtime::open(&runtime::RuntimeOptions { choice, device, ..options })?);
        }
        Ok(all)
    }

    /// The runtime of `first` on one CPU thread, for measuring times.
    ///
    /// # Errors
    /// As [`runtime::open`].
    pub(crate) fn single_threaded(&self, first: &Arc<dyn Backend>) -> Result<Arc<dyn Backend>> {
        runtime::open(&runtime::RuntimeOptions {
            choice: first.name().parse()?,
            device: Device::Cpu,
            library: self.runtime_library.clone(),
            threads: Some(1),
        })
    }

    /// Arguments with which another process opens the runtime called `name`, like
    /// [`Self::single_threaded`].
    pub(crate) fn arguments(&self, name: &str) -> Vec<OsString> {
        let fixed = ["--runtime", name, "--device", "cpu", "--threads", "1"].map(OsString::from);
        let library = self.runtime_library.iter();
        let library =
            library.flat_map(|path| ["--runtime-library".into(), path.clone().into_os_string()]);
        fixed.into_iter().chain(library).collect()
    }

    fn opening(&self) -> runtime::RuntimeOptions {
        runtime::RuntimeOptions {
            choice: self.runtime,
            device: self.device,
            library: self.runtime_library.clone(),
            threads: self.threads,
        }
    }
}
