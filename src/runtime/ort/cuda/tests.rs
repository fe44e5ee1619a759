//! Without a GPU: what is missing is recognised, and named in one sentence.
//!
//! Some of these load an ONNX Runtime built for CUDA, in a process of their own because a process loads
//! one only. They run where `ONNX_ZIP_GPU_LIBRARY` names its libonnxruntime.so, as unpacked from the
//! package onnxruntime-gpu.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::library::Surroundings;
use super::super::{LOADED, connect};
use super::*;

const LIBRARY: &str = "ONNX_ZIP_GPU_LIBRARY";

#[test]
fn the_missing_part_is_recognised() {
    let root = tempfile::tempdir().unwrap();
    let library = root.path().join("libonnxruntime.so");
    let provider = missing_library(&library).unwrap();
    fs::write(root.path().join(provider), b"").unwrap();
    assert_eq!(missing_library(&library), None);

    assert!(!has_nvidia_driver(root.path()));
    fs::create_dir(root.path().join("dev")).unwrap();
    fs::write(root.path().join("dev/nvidiactl"), b"").unwrap();
    assert!(has_nvidia_driver(root.path()));
}

#[test]
fn the_message_names_device_part_and_next_step() {
    let error = unavailable(1, "there is no GPU", "buy one");
    assert_eq!(
        error.to_string(),
        "device cuda:1 cannot be used: there is no GPU; buy one, or use device=cpu"
    );
}

#[test]
fn messages_of_the_runtime_are_understood() {
    let cudnn = "Non-zero status code returned while running Conv node. Name:'conv' Status Message: \
        RequireCudnnHandle cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen failed \
        for libcudnn.so: libcudnn.so: cannot open shared object file: No such file or directory";
    let cublas = "Failed to load library libonnxruntime_providers_cuda.so with error: \
        libcublasLt.so.13: cannot open shared object file: No such file or directory";
    let cases = [
        (cudnn, Missing::Cudnn),
        ("cuDNN is unavailable for CUDA Execution Provider: ", Missing::Cudnn),
        (cublas, Missing::Library("libcublasLt.so.13".into())),
        (
            "with error: libcuda.so.1: cannot open shared object file",
            Missing::Driver("libcuda.so.1".into()),
        ),
        ("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1", Missing::Device),
        ("CUDA failure 101: invalid device ordinal", Missing::Device),
        ("Invalid device ID: 7, must be between 0 (inclusive) and 1 (exclusive)", Missing::Device),
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
            Missing::NewerDriver,
        ),
        (
            "CUDA failure 36: API call is not supported in the installed CUDA driver",
            Missing::NewerDriver,
        ),
        ("CUDA error: no kernel image is available for execution", Missing::Kernels),
    ];
    for (message, missing) in cases {
        assert_eq!(Missing::named_in(message), Some(missing), "{message}");
    }
    assert_eq!(Missing::named_in("CUDA failure 2: out of memory"), None);
}

#[test]
fn nvidia_packages_are_found_in_the_order_of_their_needs() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().canonicalize().unwrap().join(path);
    let libraries = [
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcublasLt.so.13",
        "nvidia/cu13/lib/libcublas.so.13",
        "nvidia/cudnn/lib/libcudnn.so.9",
    ];
    for file in libraries.iter().chain(&["nvidia/cudnn/lib/libcudnn_ops.so.9"]) {
        fs::create_dir_all(at(file).parent().unwrap()).unwrap();
        fs::write(at(file), b"").unwrap();
    }
    let library = at("onnxruntime/capi/libonnxruntime.so");
    assert_eq!(packages::libraries_beside(&library), libraries.map(at));
    assert!(packages::libraries_beside(Path::new("/libonnxruntime.so")).is_empty());
}

/// Runs one of the tests below alone, with the library for CUDA; false where there is none.
fn with_gpu_library(test: &str) -> bool {
    let Some(library) = env::var_os(LIBRARY).filter(|v| !v.is_empty()) else {
        eprintln!("skipped: {LIBRARY} names no libonnxruntime.so of onnxruntime-gpu");
        return false;
    };
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--ignored", &format!("runtime::ort::cuda::tests::{test}")])
        .env("ORT_DYLIB_PATH", library)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

fn connected() -> Loaded {
    connect(&Surroundings::of_process(None)).unwrap();
    LOADED.lock().unwrap().clone().unwrap()
}

#[test]
fn a_runtime_for_cuda_says_in_one_sentence_what_it_misses() {
    with_gpu_library("alone_the_missing_part_is_named");
}

#[test]
#[ignore = "in a process of its own, with a library for CUDA"]
fn alone_the_missing_part_is_named() {
    let loaded = connected();
    assert!(is_built_in());
    for number in [0, 1, 4000] {
        let Err(error) = start(&loaded, number) else { continue };
        let text = error.to_string();
        eprintln!("{text}");
        assert_eq!(error.kind(), ErrorKind::Backend);
        let begin = format!("device cuda:{number} cannot be used: ");
        assert!(text.starts_with(&begin) && text.ends_with("or use --device cpu"), "{text}");
        assert!(text.contains("is not found") || text.contains("there is no CUDA"), "{text}");
        assert!(!text.contains("onnxruntime_src") && text.matches(';').count() == 1, "{text}");
    }
}

#[test]
fn auto_goes_on_with_the_cpu_and_tells_why() {
    with_gpu_library("alone_auto_computes_on_the_cpu_where_cuda_does_not_start");
}

#[test]
#[ignore = "in a process of its own, with a library for CUDA"]
fn alone_auto_computes_on_the_cpu_where_cuda_does_not_start() {
    let loaded = connected();
    let backend = crate::runtime::open(&crate::runtime::RuntimeOptions::default()).unwrap();
    match check(&loaded, 0) {
        Ok(()) => assert!(backend.describe().ends_with("(CUDA:0)")),
        Err(error) => {
            assert!(backend.describe().ends_with("(CPU)"));
            assert_eq!(backend.passed_over(), Some(&*error.to_string()));
        }
    }
}

#[test]
fn a_provider_that_was_left_behind_is_missed() {
    with_gpu_library("alone_the_provider_library_is_missed");
}

#[test]
#[ignore = "in a process of its own, with a library for CUDA"]
fn alone_the_provider_library_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let library = PathBuf::from(env::var_os("ORT_DYLIB_PATH").unwrap());
    let alone = folder.path().join(library.file_name().unwrap());
    fs::copy(&library, &alone).unwrap();
    let surroundings = Surroundings { option: Some(alone), ..Default::default() };
    let text = check(&connect(&surroundings).unwrap(), 0).unwrap_err().to_string();
    assert!(text.contains("libonnxruntime_providers_cuda.so is missing beside "), "{text}");
}
