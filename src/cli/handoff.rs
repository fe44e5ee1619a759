//! `retrain --export`: a folder for ONNX Runtime training.

use std::path::{Path, PathBuf};

use super::Status;
use super::console::Console;
use crate::api::data::{Given, Net, task_nets, task_ports};
use crate::api::options::RuntimeOptions;
use crate::emit;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::handoff::{self, ExportOptions, Lesson, Loss};
use crate::naming::counted;
use crate::onnx;
use crate::progress::Progress;
use crate::runtime::{ModelSource, Session};

/// The inputs of an export.
pub(super) struct Request<'a> {
    pub(super) joint: &'a Path,
    pub(super) teachers: &'a [PathBuf],
    pub(super) data: Given<'a>,
    pub(super) samples: usize,
    pub(super) loss: Loss,
    pub(super) runtime: &'a RuntimeOptions,
    pub(super) seed: u64,
    pub(super) folder: &'a Path,
}

impl Request<'_> {
    /// Writes the folder.
    ///
    /// # Errors
    /// As [`handoff::export`].
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let joint = onnx::load(self.joint)?;
        let plan = emit::restore(&joint).in_model(self.joint.display())?;
        let ports = task_ports(&plan)?;
        let nets = task_nets(&plan, &ports);
        let teachers = self.teachers(&nets, console)?;
        let data = self.data.open_nets(&nets, self.samples, self.seed, None)?;
        for note in data.iter().flat_map(|d| &d.record.notes) {
            console.note(&console.worded(note));
        }
        let lessons = teachers.into_iter().zip(&data);
        let lessons = lessons.map(|(teacher, data)| Lesson { teacher, data: &data.dataset });
        let options = ExportOptions { loss: self.loss, batch: self.runtime.batch };
        handoff::export(&joint, lessons.collect(), options, self.folder, console)
            .in_model(self.joint.display())?;
        console.finish();
        let folder = self.folder.display();
        console.note(&format!(
            "{folder} is complete: train with its train.py, as its README.md says, then run \
             `onnx-zip import {folder} -o JOINT`"
        ));
        Ok(Status::Done)
    }

    /// The original nets, if the loss needs them.
    fn teachers(
        &self,
        nets: &[Net<'_>],
        console: &Console,
    ) -> Result<Vec<Option<Box<dyn Session>>>> {
        if self.loss == Loss::CrossEntropy {
            return Ok(nets.iter().map(|_| None).collect());
        }
        if self.teachers.len() != nets.len() {
            let names: Vec<&str> = nets.iter().map(|net| net.name).collect();
            let message = format!(
                "{} cannot teach the tasks {}",
                counted(self.teachers.len(), "original model"),
                names.join(", ")
            );
            return Err(Error::new(ErrorKind::Usage, message)
                .hint("give --teacher once per task, in that order, or --loss cross-entropy"));
        }
        let backend = self.runtime.open(console)?;
        let load = |path: &PathBuf| {
            backend.load(ModelSource::File(path)).in_model(path.display()).map(Some)
        };
        self.teachers.iter().map(load).collect()
    }
}
