//! Finds the missing part in a message of ONNX Runtime.

/// A part that a message of ONNX Runtime or CUDA names as missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A device of this number.
    Device,
    /// A driver for this version of CUDA.
    NewerDriver,
    /// The driver's library.
    Driver(String),
    Cudnn,
    /// A library of CUDA, by its file name.
    Library(String),
    /// Code for a GPU of this kind.
    Kernels,
}

impl Missing {
    pub(super) fn named_in(message: &str) -> Option<Self> {
        const PHRASES: [(&str, Missing); 8] = [
            ("cuDNN is unavailable", Missing::Cudnn),
            ("no CUDA-capable device", Missing::Device),
            ("invalid device ordinal", Missing::Device),
            ("Invalid device ID", Missing::Device),
            ("Invalid device id", Missing::Device),
            ("driver version is insufficient", Missing::NewerDriver),
            ("not supported in the installed CUDA driver", Missing::NewerDriver),
            ("no kernel image is available", Missing::Kernels),
        ];
        if let Some(library) = unopened_library(message) {
            return Some(match library {
                name if name.starts_with("libcudnn") => Missing::Cudnn,
                name if name.starts_with("libcuda.so") => Missing::Driver(name.to_owned()),
                name => Missing::Library(name.to_owned()),
            });
        }
        let found = PHRASES.into_iter().find(|(phrase, _)| message.contains(phrase));
        found.map(|(_, missing)| missing)
    }

    pub(super) fn what(&self, number: usize) -> String {
        match self {
            Missing::Device => format!("there is no CUDA device {number}"),
            Missing::NewerDriver => {
                "the NVIDIA driver is older than this ONNX Runtime needs".into()
            }
            Missing::Driver(name) => format!("the NVIDIA driver's library {name} is not found"),
            Missing::Cudnn => "cuDNN is not found".into(),
            Missing::Library(name) => format!("CUDA's library {name} is not found"),
            Missing::Kernels => "this ONNX Runtime has no code for a GPU of this kind".into(),
        }
    }

    pub(super) fn next_step(&self) -> String {
        match self {
            Missing::Device => "see nvidia-smi for the devices".into(),
            Missing::NewerDriver => "install a newer driver or an older onnxruntime-gpu".into(),
            Missing::Driver(_) => in_search_path("install the driver"),
            Missing::Cudnn => in_search_path("pip install onnxruntime-gpu[cuda,cudnn]"),
            Missing::Library(_) => in_search_path("pip install onnxruntime-gpu[cuda,cudnn]"),
            Missing::Kernels => "install an onnxruntime-gpu for it".into(),
        }
    }
}

fn in_search_path(install: &str) -> String {
    let variable = if cfg!(windows) { "PATH" } else { "LD_LIBRARY_PATH" };
    format!("{install}, or name the folder that holds it in {variable}")
}

/// The library that the dynamic linker cannot find.
fn unopened_library(message: &str) -> Option<&str> {
    let (before, _) = message.split_once(": cannot open shared object file")?;
    before.rsplit(char::is_whitespace).next().filter(|name| name.contains(".so"))
}
