//! A joint model in a file, and operations on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::merged::Merged;
use super::options::RuntimeOptions;
use super::{inputs, output, rewritten};
use crate::emit;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::onnx::{self, SaveOptions};
use crate::progress::{Progress, Silent};
use crate::runtime::{ModelSource, Session, ports};
use crate::staging::Stage;

/// A joint model in a file. After [`Merger::merge`](super::Merger::merge) the file is a temporary one
/// until the model is saved.
///
/// ```no_run
/// use onnx_zip::{Joint, Silent};
///
/// let joint = Joint::open("joint.onnx")?;
/// for task in joint.tasks()? {
///     joint.extract(&task, format!("{task}.onnx"), &Silent)?;
/// }
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Joint {
    path: PathBuf,
    /// Removes the temporary file when the last clone is dropped.
    folder: Option<Arc<TempDir>>,
    merged: Option<Merged>,
}

/// A temporary folder.
pub(super) fn folder() -> Result<TempDir> {
    TempDir::with_prefix("onnx-zip-").map_err(|e| {
        Error::new(ErrorKind::Io, "cannot make a temporary folder for the joint model")
            .because(e)
            .hint("free space there, or name another folder in TMPDIR")
    })
}

impl Joint {
    /// Opens a joint model from an earlier merge.
    ///
    /// # Errors
    /// Those of reading it; [`ErrorKind::Format`] for another model.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let joint = Joint { path: path.into(), folder: None, merged: None };
        joint.restore(&Silent)?;
        Ok(joint)
    }

    /// [`Joint::open`] without reading the file.
    #[cfg(feature = "cli")]
    pub(crate) fn at(path: &Path) -> Self {
        Joint { path: path.to_owned(), folder: None, merged: None }
    }

    pub(super) fn in_folder(folder: TempDir, path: PathBuf, merged: Option<Merged>) -> Self {
        Joint { path, folder: Some(Arc::new(folder)), merged }
    }

    /// The file. A temporary one is removed with the last clone of the model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is a temporary one.
    pub fn is_temporary(&self) -> bool {
        self.folder.is_some()
    }

    /// The result of the merge; `None` for a model that was opened.
    pub fn outcome(&self) -> Option<&Merged> {
        self.merged.as_ref()
    }

    /// Names of its tasks.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn tasks(&self) -> Result<Vec<String>> {
        Ok(self.restore(&Silent)?.tasks().iter().map(|task| task.name().to_owned()).collect())
    }

    /// Names of its inputs.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn inputs(&self) -> Result<Vec<String>> {
        let model = onnx::load(&self.path)?;
        let ports = ports(&model.graph, &model.graph.inputs).in_model(self.path.display())?;
        Ok(ports.into_iter().map(|port| port.name).collect())
    }

    /// Writes it to another file, whole or not at all.
    ///
    /// # Errors
    /// As [`onnx::save`].
    pub fn save(&self, output: impl AsRef<Path>, progress: &dyn Progress) -> Result<u64> {
        let output = output.as_ref();
        output::check(output, &self.files())?;
        if !self.stands_alone() {
            return write(&onnx::load(&self.path)?, output, progress);
        }
        progress.check()?;
        let mut stage = Stage::new(progress);
        stage.write(output, |out| {
            std::io::copy(&mut File::open(&self.path)?, out)?;
            Ok(())
        })?;
        stage.commit()
    }

    /// Its file, and those of its external data.
    fn files(&self) -> Vec<PathBuf> {
        inputs::of_models(&[self.path.clone().into()])
    }

    /// Whether the temporary folder holds only this file, so that the model has no external data.
    fn stands_alone(&self) -> bool {
        let folder = self.folder.as_ref().and_then(|folder| folder.path().read_dir().ok());
        folder.is_some_and(|entries| entries.count() == 1)
    }

    /// Writes one task as a plain model with the inputs and outputs of the task's original.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where there is no such task; as [`onnx::save`].
    pub fn extract(
        &self,
        task: &str,
        output: impl AsRef<Path>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let output = output.as_ref();
        output::check(output, &self.files())?;
        write(&self.task(task, progress)?, output, progress)
    }

    /// One task as the bytes of a plain model.
    ///
    /// # Errors
    /// As [`Joint::extract`].
    pub fn extract_bytes(&self, task: &str, progress: &dyn Progress) -> Result<Vec<u8>> {
        onnx::encode(&self.task(task, progress)?)
    }

    /// Writes one model per task into a folder. All models read their weights from one common file.
    ///
    /// # Errors
    /// As [`onnx::save_split`].
    pub fn split(&self, folder: impl AsRef<Path>, progress: &dyn Progress) -> Result<()> {
        let (joint, folder) = (self.restore(progress)?, folder.as_ref());
        let files = self.files();
        for task in joint.tasks() {
            let path = folder.join(format!("{}.onnx", task.name()));
            output::check_input(&path, &files)?;
        }
        let models = emit::emit_tasks(&joint)?;
        progress.check()?;
        let names = joint.tasks().iter().map(|task| task.name());
        let named: Vec<_> = models.iter().zip(names).collect();
        onnx::save_split(&named, folder)?;
        Ok(())
    }

    /// Loads the joint model into a runtime.
    ///
    /// # Errors
    /// Those of opening the runtime and of loading the model there.
    pub fn session(
        &self,
        runtime: &RuntimeOptions,
        progress: &dyn Progress,
    ) -> Result<Box<dyn Session>> {
        let backend = runtime.open(progress)?;
        backend.load(ModelSource::File(&self.path)).in_model(self.path.display())
    }

    /// One task as a plain model.
    fn task(&self, task: &str, progress: &dyn Progress) -> Result<Model> {
        let joint = self.restore(progress)?;
        let names: Vec<&str> = joint.tasks().iter().map(|t| t.name()).collect();
        let place = names.iter().position(|name| *name == task).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no task '{task}'"))
                .hint(format!("choose one of {}", names.join(", ")))
                .in_model(self.path.display())
        })?;
        Ok(emit::plain_task(&joint, place))
    }

    fn restore(&self, progress: &dyn Progress) -> Result<JointModel> {
        let model = onnx::load(&self.path)?;
        rewritten::restore(&model, &self.path, progress)
    }
}

fn write(model: &Model, output: &Path, progress: &dyn Progress) -> Result<u64> {
    progress.check()?;
    onnx::stage(model, output, &SaveOptions::default(), progress)?.commit()
}
