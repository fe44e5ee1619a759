//! Saves several models with a common file of weights.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use super::{name_data, stream};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::naming::file_fault;
use crate::onnx::data_file::{DataFile, is_digest};
use crate::onnx::write::{PROTOBUF_LIMIT, check_size, to_proto};
use crate::staging::{StagedFolder, unwritable};

/// Tensors below this size in bytes stay in each file.
const THRESHOLD: usize = 64;

/// The name of the file of weights, around the digest of its contents.
const WEIGHTS: (&str, &str) = ("weights-", ".bin");

/// Other models in the folder are searched for names of weights files up to this size in bytes.
const LARGEST: u64 = 64 << 20;

/// Saves several models as `<name>.onnx` in a folder, with one file beside them that holds all their
/// initializers, equal ones once. Returns the number of bytes written.
///
/// Creates the folder if it does not exist. Else replaces all models of the same names at once, and keeps
/// all other files. The file of weights is named after its contents, so a model never reads weights of
/// another version.
///
/// # Errors
/// [`ErrorKind::Usage`] for a name that cannot name a file or occurs twice; [`ErrorKind::Io`],
/// [`ErrorKind::Unsupported`] and [`ErrorKind::Format`] as [`save`](super::save).
pub fn save_split(models: &[(&Model, &str)], folder: &Path) -> Result<u64> {
    let mut names = BTreeSet::new();
    let mut data = DataFile::default();
    let mut protos = Vec::new();
    for (model, name) in models {
        if let Some(fault) = file_fault(name) {
            let message = format!("no file can be called after '{name}': {fault}");
            return Err(Error::new(ErrorKind::Usage, message).hint(
                Hint::from("merge again with another ")
                    .option("name")
                    .then(", or extract the task into a file of your own"),
            ));
        }
        if !names.insert(OsString::from(format!("{name}.onnx"))) {
            let message = format!("two models are called '{name}'");
            return Err(Error::new(ErrorKind::Usage, message).hint("give each another name"));
        }
        let mut proto = to_proto(model)?;
        data.take(&mut proto, THRESHOLD);
        protos.push((proto, name));
    }
    let staged = StagedFolder::new(folder)?;
    let weights = format!("{}{}{}", WEIGHTS.0, data.digest(), WEIGHTS.1);
    let mut bytes = 0;
    if !data.is_empty() {
        bytes += write(&staged, &weights, folder, |out| data.write(out))?;
        names.insert(OsString::from(&weights));
    }
    for (mut proto, name) in protos {
        name_data(&mut proto, &weights);
        check_size(&proto, PROTOBUF_LIMIT)?;
        let file = format!("{name}.onnx");
        bytes += write(&staged, &file, folder, |out| stream::write_model(proto, out))?;
    }
    staged.commit(&unread_weights(folder, &names))?;
    Ok(bytes)
}

fn write(
    staged: &StagedFolder,
    file: &str,
    folder: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<u64> {
    let written = File::create_new(staged.path().join(file)).and_then(|created| {
        let mut out = BufWriter::with_capacity(1 << 20, created);
        fill(&mut out)?;
        let created = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        created.sync_all()?;
        Ok(created.metadata()?.len())
    });
    written.map_err(|e| unwritable(&folder.join(file), e))
}

/// Files of weights in the folder that no model needs any more after the files `new` are replaced.
fn unread_weights(folder: &Path, new: &BTreeSet<OsString>) -> BTreeSet<OsString> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let others: Vec<OsString> =
        entries.flatten().map(|e| e.file_name()).filter(|name| !new.contains(name)).collect();
    let is_model = |name: &&OsString| Path::new(name).extension().is_some_and(|e| e == "onnx");
    // A model that is too large to search, or cannot be read, might need all of them.
    let read = |name: &OsString| {
        let path = folder.join(name);
        let small = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
        if small { fs::read(path).ok() } else { None }
    };
    let models: Option<Vec<Vec<u8>>> = others.iter().filter(is_model).map(read).collect();
    let Some(models) = models else { return BTreeSet::new() };
    let is_read = |weights: &OsString| {
        let name = weights.as_encoded_bytes();
        models.iter().any(|model| model.windows(name.len()).any(|part| part == name))
    };
    others.iter().filter(|name| is_weights(name) && !is_read(name)).cloned().collect()
}

/// Whether a file has the name of a file of weights.
fn is_weights(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|n| n.strip_prefix(WEIGHTS.0)?.strip_suffix(WEIGHTS.1));
    digits.is_some_and(is_digest)
}
