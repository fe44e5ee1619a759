//! ONNX Runtime, loaded from its shared library at run time.

mod cuda;
mod library;
mod log;
mod recurrence;
mod session;
mod weight;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::ort::LoadDynamicError;
use ::ort::environment::Environment;
use ::ort::logging::LogLevel;

pub use self::library::look_in;
use self::library::{Place, Surroundings};
use super::remedy::next_step;
use super::shield::shielded;
use super::{
    Backend, Device, ModelSource, Opened, Recurrence, RuntimeChoice, RuntimeOptions, Session, State,
};
use crate::error::{Error, ErrorKind, Result};
use crate::staging::same_file;

const INSTALL: &str = "pip install -U onnxruntime, or set ORT_DYLIB_PATH to its shared library";

/// ONNX Runtime on one device.
struct OnnxRuntime {
    loaded: Loaded,
    /// The CUDA device, or `None` for the CPU.
    cuda: Option<usize>,
    /// The reason why [`Device::Auto`] did not choose CUDA in a build that has it.
    passed_over: Option<String>,
    threads: Option<usize>,
}

/// The library of this process: it cannot be unloaded, and there is one environment at most.
#[derive(Clone)]
struct Loaded {
    library: PathBuf,
    environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

pub(super) fn open(options: &RuntimeOptions) -> Result<Opened> {
    let surroundings = Surroundings::of_process(options.library.as_deref());
    let loaded = match connect(&surroundings) {
        Ok(loaded) => loaded,
        Err(error) => {
            let asked_for = options.choice == RuntimeChoice::Ort
                || matches!(options.device, Device::Cuda(_))
                || surroundings.demanded().is_some();
            return if asked_for { Err(error) } else { Ok(Opened::Missing(error)) };
        }
    };
    let mut passed_over = None;
    let cuda = match options.device {
        Device::Cpu => None,
        Device::Cuda(number) => {
            cuda::check(&loaded, number)?;
            Some(number)
        }
        Device::Auto => {
            let refused = cuda::check(&loaded, 0).err();
            passed_over = refused.as_ref().filter(|_| cuda::is_built_in()).map(Error::to_string);
            refused.is_none().then_some(0)
        }
    };
    let threads = options.threads;
    Ok(Opened::Ready(Arc::new(OnnxRuntime { loaded, cuda, passed_over, threads })))
}

impl Backend for OnnxRuntime {
    fn name(&self) -> &'static str {
        "ort"
    }

    fn describe(&self) -> String {
        let version = library::version(&self.loaded.library);
        let version = version.map(|v| format!(" {v}")).unwrap_or_default();
        let device = self.cuda.map_or("CPU".to_string(), |number| format!("CUDA:{number}"));
        format!("ONNX Runtime{version} ({device})")
    }

    fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }

    fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
        shielded("loading the model into ONNX Runtime", || {
            let session = session::OrtSession::load(self, source)?;
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }

    fn recur(&self, source: ModelSource<'_>, states: Vec<State>) -> Result<Box<dyn Recurrence>> {
        shielded("loading the model into ONNX Runtime", || {
            let recurrence = recurrence::OrtRecurrence::load(self, source, states)?;
            Ok(Box::new(recurrence) as Box<dyn Recurrence>)
        })
    }
}

/// Loads the library, or returns the one that this process has loaded before.
fn connect(surroundings: &Surroundings) -> Result<Loaded> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let demanded = surroundings.demanded();
    if let Some(loaded) = slot.as_ref() {
        return match demanded.as_ref().and_then(|place| place.libraries.first()) {
            Some(library) if !same_file(&loaded.library, library) => {
                Err(second_library(&loaded.library, library))
            }
            None if demanded.is_some() => Err(nothing_in(demanded.iter())),
            _ => Ok(loaded.clone()),
        };
    }
    let places: Box<dyn Iterator<Item = Place>> = match demanded {
        Some(place) => Box::new(std::iter::once(place)),
        None => Box::new(surroundings.places()),
    };
    let mut refused = None;
    let mut searched = Vec::new();
    for place in places {
        for library in &place.libraries {
            match initialise(library) {
                Ok(loaded) => return Ok(slot.insert(loaded).clone()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        searched.push(place);
    }
    Err(refused.unwrap_or_else(|| nothing_in(searched.iter())))
}

fn initialise(library: &Path) -> Result<Loaded> {
    let absolute = std::path::absolute(library).unwrap_or_else(|_| library.to_path_buf());
    shielded("loading ONNX Runtime's library", || {
        let environment = ::ort::init_from(&absolute)
            .map_err(|error| not_loadable(&absolute, error))?
            .with_name(env!("CARGO_PKG_NAME"))
            .with_telemetry(false)
            .with_logger(Arc::new(|level, _, _, _, message| log::take(level, message)))
            .build()
            .map_err(failed)?;
        environment.set_log_level(LogLevel::Fatal);
        Ok(Loaded { library: absolute, environment })
    })
}

fn nothing_in<'p>(searched: impl Iterator<Item = &'p Place>) -> Error {
    let names: Vec<&str> = searched.map(|place| place.name.as_str()).collect();
    Error::new(
        ErrorKind::Backend,
        format!("ONNX Runtime's library is not found; searched: {}", names.join(", ")),
    )
    .hint(INSTALL)
}

fn second_library(loaded: &Path, wanted: &Path) -> Error {
    Error::new(
        ErrorKind::Backend,
        format!(
            "{} cannot be loaded, because this process uses {} already",
            wanted.display(),
            loaded.display()
        ),
    )
    .hint("start another process for it")
}

fn not_loadable(library: &Path, error: LoadDynamicError) -> Error {
    let library = library.display();
    let message = match error {
        LoadDynamicError::BadVersion { version_str, .. } => format!(
            "{library} is ONNX Runtime {version_str}, and 1.{} is the oldest that can be used",
            ::ort::MINOR_VERSION
        ),
        LoadDynamicError::MissingApi { .. } => {
            format!("{library} is not ONNX Runtime: it has no OrtGetApiBase")
        }
        LoadDynamicError::InvalidVersionString => format!("{library} does not tell its version"),
        LoadDynamicError::Dlopen { error, .. } => {
            let reason = error.source().map_or(error.to_string(), ToString::to_string);
            format!("{library} cannot be loaded: {}", one_line(&reason))
        }
    };
    Error::new(ErrorKind::Backend, message).hint(INSTALL)
}

/// Converts an error of ONNX Runtime, without source locations and the machine's name.
fn failed<R>(error: ::ort::Error<R>) -> Error {
    // `file.cc:1 function [ONNXRuntimeError] : number : code : what happened`
    let message = error.message();
    let what = message
        .rsplit_once("[ONNXRuntimeError] : ")
        .and_then(|(_, rest)| rest.splitn(3, " : ").nth(2))
        .unwrap_or(message);
    let what = what.split_once(" ; GPU=").map_or(what, |(failure, _)| failure);
    let what = one_line(&without_place(what));
    Error::new(ErrorKind::Backend, format!("ONNX Runtime: {what}")).hint(next_step(&what, "tract"))
}

/// A message without the place in ONNX Runtime's source, if it names one:
/// `/onnxruntime_src/…/model.cc:256 Model::Model(…) what happened`.
fn without_place(text: &str) -> String {
    let Some((before, place)) = text.split_once("/onnxruntime_src/") else {
        return text.to_owned();
    };
    let Some((_, inside)) = place.split_once('(') else { return text.to_owned() };
    let mut open = 1usize;
    let end = inside.find(|c: char| {
        open = if c == '(' { open + 1 } else { open - usize::from(c == ')') };
        open == 0
    });
    match end.and_then(|end| inside.get(end + 1..)) {
        Some(rest) => format!("{before}{}", rest.trim_start().trim_start_matches("const ")),
        None => text.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanding(path: &Path) -> Surroundings {
        Surroundings { option: Some(path.to_path_buf()), ..Default::default() }
    }

    #[test]
    fn places_in_the_source_of_the_runtime_are_left_out() {
        let failed = "Load model from a.onnx failed:";
        let place = "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, \
                     const std::function<void (int)>&) const ";
        let said = "Unsupported model IR version: 99";
        assert_eq!(without_place(&format!("{failed}{place}{said}")), format!("{failed}{said}"));
        for text in [said, "/onnxruntime_src/a.cc:1 (", "/onnxruntime_src/a.cc"] {
            assert_eq!(without_place(text), text);
        }
    }

    #[test]
    fn a_missing_library_names_the_path_and_the_next_step() {
        let error = connect(&demanding(Path::new("/not/there.so"))).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "ONNX Runtime's library is not found; searched: the given path /not/there.so; \
                 {INSTALL}"
            )
        );
        assert_eq!(error.kind(), ErrorKind::Backend);
    }

    #[test]
    fn a_search_without_result_lists_the_places() {
        match connect(&Surroundings::default()) {
            // Another test of this process has loaded the library meanwhile.
            Ok(_) => assert!(LOADED.lock().unwrap().is_some()),
            Err(error) => assert!(error.to_string().contains("VIRTUAL_ENV, Python"), "{error}"),
        }
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let file = tempfile::Builder::new().suffix(".so").tempfile().unwrap();
        std::fs::write(file.path(), b"\x7fELF, but not really").unwrap();
        let error = connect(&demanding(file.path())).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Backend);
        let text = error.to_string();
        assert!(text.contains(&file.path().display().to_string()), "{text}");
        assert!(text.contains("cannot be loaded"), "{text}");
    }
}
