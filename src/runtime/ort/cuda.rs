//! Whether the CUDA execution provider works here, and which part is missing where it does not.

use std::path::Path;

use ::ort::ep::cuda::ConvAlgorithmSearch;
use ::ort::ep::{CUDA, ExecutionProvider, ExecutionProviderDispatch};
use ::ort::session::Session;

use super::super::shield::shielded;
use super::{Loaded, failed};
use crate::error::{Error, ErrorKind, Result};

const ELSE_CPU: &str = "or use --device cpu";

/// `y = Identity(x)` on one float: the smallest model that makes the provider open its device.
const PROBE: &[u8] = b"\x08\x07:7\n\x10\n\x01x\x12\x01y\"\x08Identity\x12\x01g\
    Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01\
    b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r";

/// The CUDA provider for one device, set up to compute what the CPU computes.
///
/// Left to itself, ONNX Runtime goes on without a provider that fails; here that is an error. TF32
/// would round products to 10 bits, and timing the convolution algorithms would choose another one
/// from run to run.
pub(super) fn provider(number: usize) -> ExecutionProviderDispatch {
    CUDA::default()
        .with_device_id(i32::try_from(number).unwrap_or(i32::MAX))
        .with_tf32(false)
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        .build()
        .error_on_failure()
}

/// Checks that sessions can run on CUDA device `number`.
///
/// # Errors
/// [`ErrorKind::Backend`] naming what is missing: the provider in this build of ONNX Runtime, its
/// library, the NVIDIA driver, or whatever else opening the device fails on.
pub(super) fn check(loaded: &Loaded, number: usize) -> Result<()> {
    if !CUDA::is_available().map_err(failed)? {
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
    shielded("opening CUDA", || {
        Session::builder(&loaded.environment)
            .map_err(failed)?
            .with_execution_providers([provider(number)])
            .map_err(failed)?
            .commit_from_memory(PROBE)
            .map_err(failed)
    })
    .map(drop)
    .map_err(|error| {
        unavailable(
            number,
            "the CUDA execution provider does not start",
            "check the driver and the CUDA and cuDNN libraries that this ONNX Runtime needs",
        )
        .because(error)
    })
}

fn unavailable(number: usize, what: &str, next_step: &str) -> Error {
    Error::new(ErrorKind::Backend, format!("device cuda:{number} cannot be used: {what}"))
        .hint(format!("{next_step}, {ELSE_CPU}"))
}

/// The provider's library, where it does not lie beside ONNX Runtime's.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_part_is_recognised() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join("libonnxruntime.so");
        let provider = missing_library(&library).unwrap();
        std::fs::write(root.path().join(provider), b"").unwrap();
        assert_eq!(missing_library(&library), None);

        assert!(!has_nvidia_driver(root.path()));
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/nvidiactl"), b"").unwrap();
        assert!(has_nvidia_driver(root.path()));
    }

    #[test]
    fn the_message_names_device_part_and_next_step() {
        let error = unavailable(1, "there is no GPU", "buy one");
        assert_eq!(
            error.to_string(),
            "device cuda:1 cannot be used: there is no GPU; buy one, or use --device cpu"
        );
    }
}
