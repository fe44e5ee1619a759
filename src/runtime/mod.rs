//! Inference runtimes behind one pair of traits.
//!
//! A [`Backend`] loads models into [`Session`]s. Only the files of this module see a runtime's crate;
//! another runtime is one more file and one more row of `BACKENDS`.

mod array;
mod ort;
mod port;
mod recurrence;
mod remedy;
mod shield;
#[cfg(test)]
mod suite;
#[cfg(feature = "tract")]
mod tract;
mod wide;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

pub use array::HostArray;
pub use ort::look_in;
pub(crate) use port::ports;
pub use port::{Port, feeds, fixed_batch, sample_axes, shape_text};
pub use recurrence::{Recurrence, State};
#[cfg(feature = "parquet")]
pub(crate) use shield::shielded;
#[cfg(feature = "tract")]
use tract::open as open_tract;
pub use wide::measuring;

use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;

/// Where a model comes from.
#[derive(Debug, Clone, Copy)]
pub enum ModelSource<'a> {
    /// A serialised `ModelProto` that holds all its weights.
    Bytes(&'a [u8]),
    /// A file; external data lies beside it.
    File(&'a Path),
    /// A graph with its weights, however large.
    Graph(&'a Model),
}

impl ModelSource<'_> {
    /// Fails if the file cannot be read, which is another fault than a refusal by the runtime.
    fn check_readable(&self) -> Result<()> {
        let ModelSource::File(path) = self else { return Ok(()) };
        std::fs::File::open(path).map(drop).map_err(|error| {
            Error::new(ErrorKind::Io, "the file cannot be read")
                .because(error)
                .in_model(path.display())
        })
    }
}

/// A runtime, ready to load models.
pub trait Backend: Send + Sync {
    /// The name by which the runtime is chosen, e.g. `ort`.
    fn name(&self) -> &'static str;

    /// The runtime's version and device, e.g. `ONNX Runtime 1.31.1 (CUDA:0)`.
    fn describe(&self) -> String;

    /// The reason why [`Device::Auto`] chose the CPU although the runtime is built for another
    /// device.
    fn passed_over(&self) -> Option<&str> {
        None
    }

    /// Prepares a model for running.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be read, [`ErrorKind::Backend`] where the runtime
    /// refuses the model.
    fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>>;

    /// Prepares a model that passes `states` from one run to the next. They stay on the device if the
    /// runtime supports it.
    ///
    /// # Errors
    /// As [`Backend::load`]; [`ErrorKind::Backend`] where the model has no such outputs.
    fn recur(&self, source: ModelSource<'_>, states: Vec<State>) -> Result<Box<dyn Recurrence>> {
        Ok(Box::new(recurrence::Copied::new(self.load(source)?, states)?))
    }
}

/// A model prepared for running.
pub trait Session: Send {
    /// The inputs that must be fed, in graph order; initializers are not among them.
    fn inputs(&self) -> &[Port];

    /// The outputs, in graph order.
    fn outputs(&self) -> &[Port];

    /// Computes all outputs, in graph order, from one array per input (see [`feeds`]).
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where `inputs` are not what the model takes or a node fails;
    /// [`ErrorKind::Unsupported`] where an output's type has no [`HostArray`].
    fn run(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>>;
}

/// Which runtime to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuntimeChoice {
    /// ONNX Runtime if its library is found, else tract.
    #[default]
    Auto,
    /// ONNX Runtime, by way of its shared library.
    Ort,
    /// tract, which is built in.
    Tract,
}

/// Which device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first CUDA device if it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number.
    Cuda(usize),
}

/// How to open a runtime.
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    /// The runtime.
    pub choice: RuntimeChoice,
    /// The device.
    pub device: Device,
    /// ONNX Runtime's shared library, or a folder that contains it; `None` searches for it.
    pub library: Option<PathBuf>,
    /// Threads within one operator; `None` leaves it to the runtime.
    pub threads: Option<usize>,
}

/// One runtime that can be opened.
struct Entry {
    choice: RuntimeChoice,
    name: &'static str,
    open: fn(&RuntimeOptions) -> Result<Opened>,
}

/// The result of opening a runtime.
enum Opened {
    Ready(Arc<dyn Backend>),
    /// The runtime is not installed, so another one is tried.
    Missing(Error),
}

/// The runtimes, in the order in which [`RuntimeChoice::Auto`] tries them.
const BACKENDS: &[Entry] = &[
    Entry { choice: RuntimeChoice::Ort, name: "ort", open: ort::open },
    Entry { choice: RuntimeChoice::Tract, name: "tract", open: open_tract },
];

/// Opens the chosen runtime, or the first one that is installed.
///
/// # Errors
/// [`ErrorKind::Backend`] if the chosen runtime or device is not available; names the missing part
/// and the next step.
pub fn open(options: &RuntimeOptions) -> Result<Arc<dyn Backend>> {
    let mut missing = None;
    for entry in BACKENDS {
        if !matches!(options.choice, RuntimeChoice::Auto) && options.choice != entry.choice {
            continue;
        }
        match (entry.open)(options)? {
            Opened::Ready(backend) => return Ok(backend),
            Opened::Missing(error) => missing = missing.or(Some(error)),
        }
    }
    Err(missing.unwrap_or_else(|| Error::new(ErrorKind::Backend, "no runtime can be opened")))
}

#[cfg(not(feature = "tract"))]
fn open_tract(_: &RuntimeOptions) -> Result<Opened> {
    let error = Error::new(ErrorKind::Backend, "this build has no tract");
    Ok(Opened::Missing(error.hint("install ONNX Runtime, or build with the feature tract")))
}

impl FromStr for RuntimeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(RuntimeChoice::Auto);
        }
        BACKENDS.iter().find(|entry| entry.name == text).map(|entry| entry.choice).ok_or_else(
            || {
                let names: Vec<&str> = BACKENDS.iter().map(|entry| entry.name).collect();
                Error::new(ErrorKind::Usage, format!("there is no runtime '{text}'"))
                    .hint(format!("choose auto, {}", names.join(" or ")))
            },
        )
    }
}

impl fmt::Display for RuntimeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = BACKENDS.iter().find(|entry| entry.choice == *self);
        f.write_str(entry.map_or("auto", |entry| entry.name))
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = match text {
            "auto" => return Ok(Device::Auto),
            "cpu" => return Ok(Device::Cpu),
            "cuda" => Some(0),
            // ONNX Runtime keeps the number in a 32-bit signed integer.
            other => other.strip_prefix("cuda:").and_then(|n| n.parse::<u16>().ok()),
        };
        number.map(|number| Device::Cuda(usize::from(number))).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no device '{text}'"))
                .hint("choose auto, cpu, cuda or cuda:N")
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_runtimes_are_read_and_written_alike() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for text in ["auto", "ort", "tract"] {
            assert_eq!(text.parse::<RuntimeChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn unknown_devices_and_runtimes_are_usage_errors() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "cuda:99999999999"] {
            assert_eq!(text.parse::<Device>().unwrap_err().kind(), ErrorKind::Usage);
        }
        let error = "onnx".parse::<RuntimeChoice>().unwrap_err();
        assert_eq!(error.to_string(), "there is no runtime 'onnx'; choose auto, ort or tract");
    }

    #[test]
    fn tract_has_no_cuda() {
        let options = RuntimeOptions {
            choice: RuntimeChoice::Tract,
            device: Device::Cuda(0),
            ..Default::default()
        };
        let error = open(&options).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Backend);
        assert!(error.to_string().contains("tract computes on the CPU only"), "{error}");
    }
}
