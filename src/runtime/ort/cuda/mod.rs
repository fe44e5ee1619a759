//! Checks whether the CUDA execution provider works, and names the missing part if it does not.

mod missing;
mod packages;
#[cfg(test)]
mod tests;

use std::path::Path;

use ::ort::ep::cuda::ConvAlgorithmSearch;
use ::ort::ep::{CUDA, ExecutionProvider, ExecutionProviderDispatch};
use ::ort::session::Session;
use ::ort::value::Tensor as Value;
use ndarray::ArrayD;

use self::missing::Missing;
use super::super::shield::shielded;
use super::{Loaded, failed, log};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Tensor;
use crate::ir::builder::GraphBuilder;
use crate::onnx;

/// The CUDA execution provider for one device, configured for the precision of the CPU.
///
/// By default, ONNX Runtime continues without a provider that fails; here that is an error. TF32
/// would round products to 10 bits, and benchmarking convolution algorithms would choose different
/// ones from run to run.
pub(super) fn provider(number: usize) -> ExecutionProviderDispatch {
    CUDA::default()
        .with_device_id(i32::try_from(number).unwrap_or(i32::MAX))
        .with_tf32(false)
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        .build()
        .error_on_failure()
}

/// Whether this ONNX Runtime is built for CUDA.
pub(super) fn is_built_in() -> bool {
    CUDA::is_available().unwrap_or(false)
}

/// Checks that sessions can run on CUDA device `number`.
///
/// # Errors
/// [`ErrorKind::Backend`] naming what is missing: the provider in this build of ONNX Runtime, its
/// library, the NVIDIA driver, CUDA's libraries, cuDNN, or another cause of a failed convolution.
pub(super) fn check(loaded: &Loaded, number: usize) -> Result<()> {
    if !is_built_in() {
        return Err(unavailable(
            number,
            &format!("{} is built without the CUDA execution provider", loaded.library.display()),
            "pip install onnxruntime-gpu in place of onnxruntime",
        ));
    }
    if let Some(missing) = missing_library(&loaded.library) {
        return Err(unavailable(
            number,
            &format!("{missing} is missing beside {}", loaded.library.display()),
            "install onnxruntime-gpu again",
        ));
    }
    if cfg!(target_os = "linux") && !has_nvidia_driver(Path::new("/")) {
        return Err(unavailable(
            number,
            "there is no NVIDIA GPU, or its driver is not loaded",
            "check that nvidia-smi lists the GPU",
        ));
    }
    start(loaded, number)
}

/// Computes a convolution on the device. Without cuDNN, the provider starts, but fails at the first
/// layer that needs it.
fn start(loaded: &Loaded, number: usize) -> Result<()> {
    packages::preload(&loaded.library);
    let probe = onnx::encode(&probe())?;
    let (outcome, logged) = log::listening(&loaded.environment, || {
        shielded("opening CUDA", || {
            let mut session = Session::builder(&loaded.environment)
                .map_err(failed)?
                .with_execution_providers([provider(number)])
                .map_err(failed)?
                .commit_from_memory(&probe)
                .map_err(failed)?;
            let x = Value::from_array(ArrayD::<f32>::ones(vec![1, 2, 4, 4])).map_err(failed)?;
            session.run(::ort::inputs![x]).map_err(failed)?;
            Ok(())
        })
    });
    outcome.map_err(|error| match Missing::named_in(&format!("{error}; {logged}")) {
        Some(missing) => unavailable(number, &missing.what(number), &missing.next_step()),
        None => unavailable(
            number,
            "the CUDA execution provider does not start",
            "check the driver and the CUDA and cuDNN libraries that this ONNX Runtime needs",
        )
        .because(error),
    })
}

/// One convolution, too large for kernels that do without cuDNN.
fn probe() -> crate::ir::Model {
    let mut b = GraphBuilder::new("probe", 13);
    let x = b.input("x", "1,2,4,4");
    let w = b.constant("w", Tensor::from_f32(&ArrayD::ones(vec![2, 2, 3, 3])));
    let y = b.op("Conv", "conv", &[x, w], []);
    b.build(&[y])
}

fn unavailable(number: usize, what: &str, next_step: &str) -> Error {
    Error::new(ErrorKind::Backend, format!("device cuda:{number} cannot be used: {what}"))
        .hint(Hint::from(next_step).then(", or use ").option_as("device", "cpu"))
}

/// The missing library of the provider, which must lie beside ONNX Runtime's.
fn missing_library(library: &Path) -> Option<&'static str> {
    let name = if cfg!(windows) {
        "onnxruntime_providers_cuda.dll"
    } else {
        "libonnxruntime_providers_cuda.so"
    };
    let resolved = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let beside = |file: &Path| file.with_file_name(name).exists();
    (!beside(library) && !beside(&resolved)).then_some(name)
}

/// Whether the device nodes of NVIDIA's driver are there (those of Windows' subsystem included).
fn has_nvidia_driver(root: &Path) -> bool {
    ["dev/nvidiactl", "dev/nvhost-ctrl-gpu", "dev/nvgpu", "dev/dxg"]
        .iter()
        .any(|node| root.join(node).exists())
}
