//! NVIDIA's libraries as pip installs them: `pip install onnxruntime-gpu[cuda,cudnn]` puts them into
//! folders that the dynamic linker does not search.

use std::path::{Path, PathBuf};

use ::ort::util::preload_dylib;

use super::super::library::entries;

/// The libraries that the CUDA provider uses, each after its own dependencies.
const LIBRARIES: [&str; 7] = [
    "libcudart.so.",
    "libnvrtc.so.",
    "libcublasLt.so.",
    "libcublas.so.",
    "libcurand.so.",
    "libcufft.so.",
    "libcudnn.so.",
];

/// Loads the libraries of NVIDIA's packages beside the package of `library`, unless the dynamic
/// linker finds them. The provider reports a library that cannot be loaded.
pub(super) fn preload(library: &Path) {
    for path in libraries_beside(library) {
        let found = path.file_name().is_some_and(|name| preload_dylib(name).is_ok());
        if !found {
            let _ = preload_dylib(path.as_os_str());
        }
    }
}

/// The libraries in `nvidia/*/lib` beside the package `onnxruntime/capi` of `library`, in the order
/// of their dependencies.
pub(super) fn libraries_beside(library: &Path) -> Vec<PathBuf> {
    let library = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let Some(packages) = library.ancestors().nth(3) else { return Vec::new() };
    let files: Vec<PathBuf> = entries(&packages.join("nvidia"))
        .into_iter()
        .flat_map(|package| entries(&package.join("lib")))
        .collect();
    LIBRARIES.iter().flat_map(|stem| files.iter().filter(|file| is(file, stem)).cloned()).collect()
}

fn is(file: &Path, stem: &str) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem))
}
