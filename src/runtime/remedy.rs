//! The next step for a fault that a runtime reports in its own words.

use crate::error::Hint;

/// What a runtime's words are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// An operator of the standard that the runtime does not have, or not for these types.
    Operator,
    /// An operator of another domain.
    Custom,
    /// A file of a newer version of the format or of the operator set.
    Version,
    /// A file of external data that is not there.
    External,
    /// Memory.
    Memory,
    /// A library.
    Library,
    /// A GPU.
    Device,
    /// Sizes that do not fit each other, in the model or in what it is fed.
    Sizes,
    /// A model that is not valid, or damaged.
    Model,
    /// Anything else.
    Other,
}

/// Words of ONNX Runtime and of tract. The first that appear count.
const WORDS: &[(&str, Cause)] = &[
    ("is not a registered function/op", Cause::Operator),
    ("Could not find an implementation", Cause::Operator),
    ("No Op registered for", Cause::Operator),
    ("does not support", Cause::Operator),
    ("No opset import for domain", Cause::Custom),
    ("IR version", Cause::Version),
    ("is under development and support for this is limited", Cause::Version),
    ("cannot open shared object file", Cause::Library),
    ("xternal data", Cause::External),
    ("xternal initializer", Cause::External),
    ("GetFileLength", Cause::External),
    ("No such file or directory", Cause::External),
    ("allocate memory", Cause::Memory),
    ("bad_alloc", Cause::Memory),
    ("bad allocation", Cause::Memory),
    ("out of memory", Cause::Memory),
    ("is smaller than requested bytes", Cause::Memory),
    ("CUDA", Cause::Device),
    ("CUDNN", Cause::Device),
    ("CUBLAS", Cause::Device),
    ("rotobuf", Cause::Model),
    ("nvalid model", Cause::Model),
    ("Type Error", Cause::Model),
    ("No super type", Cause::Model),
    ("ShapeInferenceError", Cause::Sizes),
    ("imension", Cause::Sizes),
    ("hape", Cause::Sizes),
    ("unify", Cause::Sizes),
    ("out of data bounds", Cause::Sizes),
    ("Non-zero status code", Cause::Sizes),
];

impl Cause {
    fn of(said: &str) -> Cause {
        let found = WORDS.iter().find(|(words, _)| said.contains(words));
        match found.map_or(Cause::Other, |(_, cause)| *cause) {
            Cause::Operator if names_domain(said) => Cause::Custom,
            cause => cause,
        }
    }

    fn next_step(self, other: &'static str) -> Hint {
        let or_other = |hint: &str| Hint::from(hint).then(", or try ").option_as("runtime", other);
        match self {
            Cause::Operator => or_other(
                "install a newer onnxruntime, or export the model in F32 with an older operator set",
            ),
            Cause::Custom => Hint::from(
                "export the model with operators of the standard, which need no library of their own",
            ),
            Cause::Version => {
                or_other("install a newer onnxruntime, or export the model in an older version")
            }
            Cause::External => "put the model's file of external data beside it".into(),
            Cause::Memory => Hint::from("free memory, or give a smaller ")
                .option("batch")
                .then(" or fewer ")
                .option("threads"),
            Cause::Library => {
                Hint::from("install this library, or use ").option_as("device", "cpu")
            }
            Cause::Device => {
                Hint::from("see nvidia-smi for the GPU, or use ").option_as("device", "cpu")
            }
            Cause::Sizes => Hint::from("compare the samples with what this node takes; ")
                .option("dim")
                .then(" sets open sizes"),
            Cause::Model => or_other("export the model again, and check it with onnx.checker"),
            Cause::Other => or_other("check the model with onnx.checker"),
        }
    }
}

/// Whether an operator is named with a domain that is not the standard's, as in `com.acme:Scale(-1) is not`.
fn names_domain(said: &str) -> bool {
    let names = said.split(" is not a registered").next().unwrap_or_default();
    let name = names.rsplit(char::is_whitespace).next().unwrap_or_default();
    let domain = name.split_once(':').map(|(domain, _)| domain);
    said.contains(" is not a registered") && domain.is_some_and(|d| !["", "ai.onnx"].contains(&d))
}

/// The next step after what a runtime `said`; `other` is the name of the other runtime.
pub(super) fn next_step(said: &str, other: &'static str) -> Hint {
    Cause::of(said).next_step(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_a_next_step() {
        for (said, cause) in SAID {
            assert_eq!(Cause::of(said), *cause, "{said}");
            assert!(!next_step(said, "tract").in_flags().is_empty());
        }
        let step = next_step("Failed to allocate memory for requested buffer of size 99", "tract");
        assert_eq!(step.in_flags(), "free memory, or give a smaller --batch or fewer --threads");
        assert!(next_step("?", "ort").in_fields().ends_with("or try runtime=ort"));
    }

    /// Messages as ONNX Runtime 1.31 and tract 0.23 write them.
    const SAID: &[(&str, Cause)] = &[
        (
            "This is an invalid model. In Node, (\"odd\", Frobnicate, \"\", -1) : (\"z\": tensor(float),) -> (\"y\": \
             tensor(float),) , Error No Op registered for Frobnicate with domain_version of 17",
            Cause::Operator,
        ),
        ("Could not find an implementation for Det(11) node with name 'odd'", Cause::Operator),
        ("Evaluating #6 \"odd #3\" Erf: Erf does not support F64", Cause::Operator),
        ("Fatal error: ai.onnx:Foo(-1) is not a registered function/op", Cause::Operator),
        ("Fatal error: com.acme:Scale2(-1) is not a registered function/op", Cause::Custom),
        (
            "This is an invalid model. In Node, (\"\", Scale2, \"com.acme\", -1) : (\"x\": tensor(float),) -> (\"y\": \
             tensor(float),) , Error No opset import for domain 'com.acme'",
            Cause::Custom,
        ),
        ("Unsupported model IR version: 99, max supported IR version: 13", Cause::Version),
        (
            "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. \
             Opset 27 is under development and support for this is limited.",
            Cause::Version,
        ),
        ("External data path does not exist: \"/nets/weights.bin\"", Cause::External),
        (
            "libcudnn.so.9: cannot open shared object file: No such file or directory",
            Cause::Library,
        ),
        (
            "Non-zero status code returned while running Expand node. Name:'' Status Message: Failed to allocate \
             memory for requested buffer of size 70368744177664",
            Cause::Memory,
        ),
        ("CUDA failure 2: out of memory", Cause::Memory),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED", Cause::Device),
        ("Protobuf parsing failed.", Cause::Model),
        (
            "Type Error: Type parameter (T) of Optype (Add) bound to different types (tensor(float) and tensor(int64) \
             in node (odd).",
            Cause::Model,
        ),
        (
            "Invalid model. Node input 'ghost' is not a graph input, initializer, or output",
            Cause::Model,
        ),
        (
            "Failed analyse for node #7 \"odd #3\" Add: Infering facts: Applying rule: No super type for F32 and I64",
            Cause::Model,
        ),
        ("Node () Op (MatMul) [ShapeInferenceError] Incompatible dimensions", Cause::Sizes),
        (
            "Non-zero status code returned while running MatMul node. Name:'' Status Message: matmul_helper.h:59 \
             Compute MatMul dimension mismatch",
            Cause::Sizes,
        ),
        (
            "Non-zero status code returned while running Gather node. Name:'' Status Message: indices element out of \
             data bounds, idx=7 must be within the inclusive range [-3,2]",
            Cause::Sizes,
        ),
        (
            "Failed analyse for node #7 \"odd #3\" Reshape: Infering facts: Applying rule: Reshaping [Val(8), Val(4)] \
             to [Val(7), Val(7)]: Reshape volume mismatch",
            Cause::Sizes,
        ),
        ("it gives no reason", Cause::Other),
    ];
}
