//! Reading models.

mod adapted;
mod attribute;
mod file;
mod functions;
mod graph;
mod left_out;
mod outline;
mod references;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::Path;

use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};

use self::file::FileBuffer;
use self::graph::GraphReader;
use super::external::ExternalData;
use super::proto::{FunctionProto, GraphProto, ModelProto, OperatorSetIdProto};
use super::sniff;
use super::write::FIRST_IR_WITH_CONSTANTS;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::naming::shown;
pub(crate) use adapted::{adapted, adapted_file};
pub(crate) use references::data_files;

/// Reads a model file and the external data files it names. The model is named after the file's
/// stem; each large tensor has memory of its own.
///
/// # Errors
/// [`ErrorKind::Io`] if a file cannot be read, [`ErrorKind::Format`] if it is no well-formed model,
/// [`ErrorKind::Unsupported`] for sparse initializers, lists of graphs as attributes and overloaded
/// local functions. The error names the path.
pub fn load(path: &Path) -> Result<Model> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    parse_file(path)
        .and_then(|proto| read_model(proto, ExternalData::beside(path), &stem))
        .in_model(path.display())
}

/// Reads a model from memory. `folder` is where external data files are looked for, `name` becomes
/// the model's name; large tensors stay slices of the bytes.
///
/// # Errors
/// As [`load`]; the error names `name`.
pub fn decode(bytes: Bytes, folder: Option<&Path>, name: &str) -> Result<Model> {
    let external = folder.map_or_else(ExternalData::none, ExternalData::in_folder);
    let proto = parse(bytes.clone(), &bytes);
    proto.and_then(|proto| read_model(proto, external, name)).in_model(name)
}

/// Bytes to inspect before a file is read as a whole.
const PROBE: u64 = 1 << 12;

/// Limit of a message's size: protobuf counts its bytes in 31 bits. Larger models have external data.
const LARGEST: u64 = 1 << 31;

fn parse_file(path: &Path) -> Result<ModelProto> {
    let (mut buffer, beginning) = opened(path)?;
    let proto = parse(&mut buffer, &beginning);
    buffer.failure().map_or(proto, |failure| Err(unreadable(failure)))
}

fn unreadable(cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot read the model").because(cause)
}

/// A model file at its beginning, and its first bytes.
fn opened(path: &Path) -> Result<(FileBuffer, Vec<u8>)> {
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Error::new(ErrorKind::Io, "this is a folder").hint("give an .onnx file"));
    }
    // A pipe or a device may never end.
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Io, "this is not a file").hint("give an .onnx file"));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let mut beginning = Vec::new();
    file.by_ref().take(PROBE).read_to_end(&mut beginning).map_err(unreadable)?;
    // A message begins with the number of a field; a hole in a file reads as zeros.
    if beginning.first() == Some(&0) || metadata.len() > LARGEST {
        return Err(no_model(&beginning, None));
    }
    file.rewind().map_err(unreadable)?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    Ok((FileBuffer::new(file, length), beginning))
}

fn read_model(proto: ModelProto, external: ExternalData, name: &str) -> Result<Model> {
    let checked = proto.graph.as_ref().map_or(Ok(()), check_outputs);
    let model = checked.and_then(|()| assemble(proto, external, name));
    model.map_err(|error| match error.kind() {
        ErrorKind::Format => error.hint("the model is damaged; export it again"),
        _ => error,
    })
}

/// The model in a message, whose external data files are found by `external`.
pub(super) fn assemble(
    mut proto: ModelProto,
    mut external: ExternalData,
    name: &str,
) -> Result<Model> {
    left_out::drop_last(&mut proto);
    functions::inline(&mut proto)?;
    let graph = proto.graph.take().unwrap_or_default();
    let defaults = match proto.ir_version() < FIRST_IR_WITH_CONSTANTS {
        true => Vec::new(),
        false => defaults(&graph),
    };
    Ok(Model {
        name: name.to_owned(),
        ir_version: proto.ir_version.unwrap_or_default(),
        opsets: read_opsets(proto.opset_import),
        producer: proto.producer_name.unwrap_or_default(),
        metadata: proto
            .metadata_props
            .into_iter()
            .map(|e| (e.key.unwrap_or_default(), e.value.unwrap_or_default()))
            .collect(),
        functions: read_functions(proto.functions, &mut external)?,
        defaults,
        graph: GraphReader::new(&mut external).read(graph)?,
    })
}

/// Runtimes find outputs by name.
fn check_outputs(graph: &GraphProto) -> Result<()> {
    let mut seen = HashSet::new();
    match graph.output.iter().find(|output| !seen.insert(output.name())) {
        Some(twice) => {
            let message = format!("the output '{}' is listed twice", shown(twice.name()));
            Err(Error::new(ErrorKind::Format, message))
        }
        None => Ok(()),
    }
}

/// The inputs with a default value: those that have the name of an initializer.
fn defaults(graph: &GraphProto) -> Vec<String> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let names = graph.input.iter().map(|input| input.name());
    names.filter(|name| constants.contains(name)).map(str::to_owned).collect()
}

/// Decodes the protobuf message and checks that it describes a model: many other files decode to an
/// empty message. Errors describe the `beginning`.
fn parse(message: impl Buf, beginning: &[u8]) -> Result<ModelProto> {
    if beginning.is_empty() {
        return Err(Error::new(ErrorKind::Format, "the file is empty")
            .hint("download or export the model again"));
    }
    let proto = ModelProto::decode(message).map_err(|e| no_model(beginning, Some(e)))?;
    let missing = match &proto.graph {
        None => Some("graph"),
        Some(GraphProto { node, .. }) if node.is_empty() => Some("nodes"),
        Some(GraphProto { output, .. }) if output.is_empty() => Some("outputs"),
        Some(_) => None,
    };
    match missing {
        Some(what) => {
            let message = format!("this is not an ONNX model: it has no {what}");
            Err(looking_like(beginning, Error::new(ErrorKind::Format, message)))
        }
        None => Ok(proto),
    }
}

/// The error for bytes that are not an ONNX message.
pub(super) fn no_model(bytes: &[u8], cause: Option<DecodeError>) -> Error {
    let error = Error::new(ErrorKind::Format, "this is not an ONNX model, or a damaged one");
    looking_like(
        bytes,
        match cause {
            Some(cause) => error.because(cause),
            None => error,
        },
    )
}

/// An error that names the known format of the bytes; else the given error.
fn looking_like(bytes: &[u8], error: Error) -> Error {
    match sniff::describe(bytes) {
        Some((what, hint)) => {
            Error::new(ErrorKind::Format, format!("this is {what}, not an ONNX model")).hint(hint)
        }
        None => error.hint("download or export the model again"),
    }
}

/// The standard domain has two spellings; of a domain listed twice the newest version counts.
fn read_opsets(imports: Vec<OperatorSetIdProto>) -> BTreeMap<String, i64> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let version = import.version();
        let newest = opsets.entry(read_domain(import.domain)).or_insert(version);
        *newest = version.max(*newest);
    }
    opsets
}

fn read_domain(domain: Option<String>) -> String {
    domain.filter(|domain| domain != "ai.onnx").unwrap_or_default()
}

/// The functions that stay, encoded. Constants from data files lie inside them, and many may lie in one place
/// of a file, so a short model could ask for any size.
fn read_functions(
    functions: Vec<FunctionProto>,
    external: &mut ExternalData,
) -> Result<Vec<Vec<u8>>> {
    let (mut encoded, mut length) = (Vec::new(), 0u64);
    for mut function in functions {
        external.inline_nodes(&mut function.node)?;
        length = length.saturating_add(function.encoded_len() as u64);
        if length > LARGEST {
            let message = format!(
                "local functions have more than {LARGEST} bytes with their external data, at '{}'",
                shown(function.name())
            );
            return Err(Error::new(ErrorKind::Format, message)
                .hint("export the model without local functions"));
        }
        encoded.push(function.encode_to_vec());
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests;
