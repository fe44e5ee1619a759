//! Checkpoints: files from which training resumes.
//!
//! A file is a safetensors container with all state (`state/<name>`) and the best parameters so far
//! (`best/<name>`); everything else is JSON under `onnx-zip` in its metadata.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::Path;

use ndarray::ArrayD;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use crate::calib::container;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::progress::Silent;
use crate::runtime::HostArray;
use crate::staging::{Stage, unwritable};

use super::outcome::Point;

/// Key of our entry in the container's metadata.
const KEY: &str = "onnx-zip";

/// Version of the files.
const VERSION: u32 = 1;

/// The metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    version: u32,
    /// Fingerprint of the training ([`super::fingerprint`]).
    fingerprint: String,
    iteration: usize,
    best_iteration: usize,
    history: Vec<Point>,
}

/// Training at some step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checkpoint {
    /// Steps so far.
    pub(super) iteration: usize,
    /// Step of the best parameters.
    pub(super) best_iteration: usize,
    /// All validations so far.
    pub(super) history: Vec<Point>,
    /// All state, in order.
    pub(super) state: Vec<HostArray>,
    /// The best parameters, in order.
    pub(super) best: Vec<HostArray>,
}

impl Checkpoint {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where it cannot be written.
    pub(super) fn save(&self, path: &Path, fingerprint: &str) -> Result<()> {
        let failed =
            |cause: Box<dyn StdError + Send + Sync>| unwritable(path, io::Error::other(cause));
        let header = Header {
            version: VERSION,
            fingerprint: fingerprint.to_owned(),
            iteration: self.iteration,
            best_iteration: self.best_iteration,
            history: self.history.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|e| failed(e.into()))?;
        let metadata = HashMap::from([(KEY.to_owned(), header)]);
        let mut stored = Vec::new();
        for (part, arrays) in [("state", &self.state), ("best", &self.best)] {
            for (number, array) in arrays.iter().enumerate() {
                let values = array.as_f32()?;
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                stored.push((format!("{part}/{number}"), values.shape().to_vec(), bytes));
            }
        }
        let mut views = Vec::new();
        for (name, shape, bytes) in &stored {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            views.push((name.as_str(), view.map_err(|e| failed(e.into()))?));
        }
        let bytes = serialize(views, Some(metadata)).map_err(|e| failed(e.into()))?;
        // A checkpoint is a file, which nobody waits for.
        let mut stage = Stage::new(&Silent);
        stage.write(path, |out| out.write_all(&bytes))?;
        stage.commit().map(drop)
    }

    /// Reads what [`Checkpoint::save`] has written for the training called `fingerprint`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be read, [`ErrorKind::Format`] where it is not such a
    /// file, [`ErrorKind::Usage`] where it is of another training.
    pub(super) fn load(path: &Path, fingerprint: &str) -> Result<Self> {
        let read = container::read(path).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => foreign(e),
            _ => Error::new(ErrorKind::Io, "cannot read the checkpoint").because(e),
        });
        parse(&read.in_model(path.display())?, fingerprint).in_model(path.display())
    }

    /// Checks that training of `iterations` steps can resume here with this state, whose first arrays are
    /// the `parameters`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where it has gone further; [`ErrorKind::Format`] where the arrays are others.
    pub(super) fn check(
        &self,
        iterations: usize,
        state: &[&[usize]],
        parameters: usize,
    ) -> Result<()> {
        let at = self.iteration;
        if at > iterations {
            let message = format!("the checkpoint is at iteration {at} of {iterations}");
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("ask for more ").option("iterations")));
        }
        let shapes = |arrays: &[HostArray], wanted: &[&[usize]]| {
            arrays.len() == wanted.len()
                && arrays.iter().zip(wanted).all(|(array, wanted)| array.shape() == *wanted)
        };
        let best = state.get(..parameters).unwrap_or_default();
        let known = self.history.iter().any(|point| point.iteration == self.best_iteration);
        let ordered = self.history.iter().all(|point| point.iteration <= at);
        if known && ordered && shapes(&self.state, state) && shapes(&self.best, best) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Format, "the checkpoint does not fit the training it names")
            .hint(Hint::from("train anew without ").option("resume")))
    }
}

fn parse(bytes: &[u8], fingerprint: &str) -> Result<Checkpoint> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| {
        Error::new(ErrorKind::Format, "the file is no checkpoint of this program")
    })?;
    let header: Header = serde_json::from_str(header).map_err(foreign)?;
    if header.version != VERSION {
        let message = format!("the checkpoint has version {}, not {VERSION}", header.version);
        return Err(Error::new(ErrorKind::Format, message).hint("train again"));
    }
    if header.fingerprint != fingerprint {
        return Err(Error::new(ErrorKind::Usage, "the checkpoint is of another training").hint(
            Hint::from("give the same models, data and options, or train anew without ")
                .option("resume"),
        ));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(foreign)?;
    let part = |name: &str| -> Result<Vec<HostArray>> {
        let numbers = (0..).map(|number| format!("{name}/{number}"));
        numbers.map_while(|name| tensors.tensor(&name).ok()).map(|view| array(&view)).collect()
    };
    Ok(Checkpoint {
        iteration: header.iteration,
        best_iteration: header.best_iteration,
        history: header.history,
        state: part("state")?,
        best: part("best")?,
    })
}

fn foreign(cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Format, "this is no checkpoint, or a damaged one").because(cause)
}

fn array(view: &TensorView<'_>) -> Result<HostArray> {
    let wrong = || Error::new(ErrorKind::Format, "the checkpoint holds an array of another kind");
    if view.dtype() != Dtype::F32 {
        return Err(wrong());
    }
    let (elements, _) = view.data().as_chunks();
    let values: Vec<f32> = elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let array = ArrayD::from_shape_vec(view.shape(), values).map_err(|_| wrong())?;
    Ok(array.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::validate::Quality;
    use super::*;

    fn checkpoint() -> Checkpoint {
        let array = |v: f32| HostArray::from(ndarray::arr2(&[[v, 2.0]]).into_dyn());
        let quality = Quality { loss: 0.5, error: Some(0.25) };
        let point = Point { iteration: 0, training: Vec::new(), validation: vec![quality] };
        Checkpoint {
            iteration: 7,
            best_iteration: 5,
            history: vec![point],
            state: (0..12).map(|i| array(i as f32)).collect(),
            best: vec![array(4.0)],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.ckpt");
        checkpoint().save(&path, "ab").unwrap();
        assert_eq!(Checkpoint::load(&path, "ab").unwrap(), checkpoint());
        let shapes = [[1, 2].as_slice(); 12];
        let kind = |result: Result<()>| result.map_err(|e| e.kind());
        let saved = Checkpoint { best_iteration: 0, ..checkpoint() };
        assert_eq!(kind(saved.check(7, &shapes, 1)), Ok(()));
        assert_eq!(kind(saved.check(6, &shapes, 1)), Err(ErrorKind::Usage));
        assert_eq!(kind(saved.check(7, &shapes, 2)), Err(ErrorKind::Format));
        assert_eq!(kind(saved.check(7, &[[2, 1].as_slice(); 12], 1)), Err(ErrorKind::Format));
        assert_eq!(kind(checkpoint().check(7, &shapes, 1)), Err(ErrorKind::Format));
        let error = Checkpoint::load(&path, "cd").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..0], &bytes[..bytes.len() - 1], b"no checkpoint"] {
            assert_eq!(parse(damaged, "ab").unwrap_err().kind(), ErrorKind::Format);
        }
    }

    proptest::proptest! {
        #[test]
        fn changed_files_are_answered(
            edits in proptest::collection::vec((0usize..3000, proptest::prelude::any::<u8>()), 1..5),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("c.ckpt");
            checkpoint().save(&path, "ab").unwrap();
            let mut bytes = fs::read(&path).unwrap();
            for (place, value) in edits {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            fs::write(&path, bytes).unwrap();
            if let Ok(read) = Checkpoint::load(&path, "ab") {
                let _ = read.check(7, &[[1, 2].as_slice(); 12], 1);
            }
        }
    }
}
