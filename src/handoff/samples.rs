//! Writes the samples of a task and the targets of its outputs as `.npy` files.

use std::path::Path;

use ndarray::{Array1, ArrayD};

use super::manifest::{Stored, Target, Task};
use super::npy::NpyFile;
use super::{ExportOptions, Lesson};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{DataType, Dim, Graph, ValueId};
use crate::naming::counted;
use crate::progress::Progress;
use crate::runtime::{HostArray, feeds, fixed_batch};

/// The loss of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loss {
    /// The outputs of the original net: squared error relative to their variance. Needs no labels.
    #[default]
    Distillation,
    /// The labels: cross-entropy of the task's first output, which must be scores of classes.
    CrossEntropy,
}

/// The net of a task, and the folder for its samples.
pub(super) struct Net<'a> {
    pub(super) graph: &'a Graph,
    pub(super) name: &'a str,
    /// The task's number, in names of files.
    pub(super) number: usize,
    pub(super) folder: &'a Path,
}

impl Net<'_> {
    /// Writes the samples and targets of the task, and describes them.
    pub(super) fn write(
        &self,
        lesson: Lesson<'_>,
        options: ExportOptions,
        progress: &dyn Progress,
    ) -> Result<Task> {
        let ExportOptions { loss, batch } = options;
        let Lesson { mut teacher, data } = lesson;
        let of_teacher = || teacher.as_ref().and_then(|t| fixed_batch(t.inputs()));
        let fixed = self.graph.fixed_batch().or_else(of_teacher);
        let size = fixed.unwrap_or(batch).max(1);
        // A net of fixed batch size takes whole batches only.
        let samples = fixed.map_or(data.len(), |n| data.len() / n * n);
        if samples == 0 {
            let message =
                format!("a batch of {size} takes more than {}", counted(data.len(), "sample"));
            return Err(Error::new(ErrorKind::Calibration, message));
        }
        let mut columns = Columns { net: self, rows: samples, all: Vec::new() };
        for range in data.take(samples).batches(size) {
            progress.check()?;
            let batch = data.batch(range.clone())?;
            for (name, array) in &batch {
                columns.push("input", name, array)?;
            }
            if let Some(teacher) = teacher.as_mut().filter(|_| loss == Loss::Distillation) {
                let names: Vec<String> = teacher.outputs().iter().map(|p| p.name.clone()).collect();
                for (name, array) in names.iter().zip(teacher.run(&feeds(&batch))?) {
                    columns.push("output", name, &array)?;
                }
            }
            progress.step();
        }
        self.describe(&columns.finish()?, data.labels(0..samples), samples, loss)
    }

    /// The entry of the manifest.
    fn describe(
        &self,
        columns: &[Column],
        labels: Option<Vec<i64>>,
        samples: usize,
        loss: Loss,
    ) -> Result<Task> {
        let labels = self.labels(labels)?;
        let targets = match loss {
            Loss::Distillation => self.distilled(columns)?,
            Loss::CrossEntropy => vec![self.classified(labels.as_deref())?],
        };
        let is_input = |column: &&Column| column.role == "input";
        let inputs = columns.iter().filter(is_input).map(|column| Stored {
            name: format!("{}/{}", self.name, column.name),
            file: column.file.clone(),
        });
        let (name, batch) = (self.name.to_owned(), self.graph.fixed_batch());
        Ok(Task { name, samples, batch, inputs: inputs.collect(), targets, labels })
    }

    /// Writes labels and names their file.
    fn labels(&self, labels: Option<Vec<i64>>) -> Result<Option<String>> {
        let Some(labels) = labels else { return Ok(None) };
        let array = HostArray::from(ArrayD::from(Array1::from(labels).into_dyn()));
        let name = format!("task{}_labels.npy", self.number);
        let rows = array.rows().unwrap_or(0);
        let mut file = NpyFile::create(&self.folder.join(&name), rows, &array)?;
        file.push(&array)?;
        file.finish()?;
        Ok(Some(name))
    }

    /// One term per output that holds floats.
    fn distilled(&self, columns: &[Column]) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for output in &self.graph.outputs {
            let value = self.graph.value(*output);
            if value.ty.as_ref().is_some_and(|t| t.dtype != DataType::F32) {
                continue;
            }
            let of_output = |c: &&Column| c.role == "output" && c.name == value.name;
            let Some(column) = columns.iter().find(of_output) else {
                let message = format!("the original model has no output '{}'", value.name);
                return Err(Error::new(ErrorKind::Usage, message).hint(
                    Hint::from("give ")
                        .option("teacher")
                        .then(" once per task, in the order of the tasks"),
                ));
            };
            targets.push(Target {
                output: format!("{}/{}", self.name, value.name),
                loss: "mean_squared_error",
                file: column.file.clone(),
                weight: 1.0 / column.variance(),
            });
        }
        match targets.is_empty() {
            true => Err(Error::new(ErrorKind::Unsupported, "no output holds 32-bit floats")),
            false => Ok(targets),
        }
    }

    /// The term for labels.
    fn classified(&self, labels: Option<&str>) -> Result<Target> {
        let file = labels.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "cross-entropy needs labels and the data have none").hint(
                Hint::from("add an array 'labels', or distil from ")
                    .option("teacher")
                    .then(" instead"),
            )
        })?;
        let output = self.graph.outputs.first().copied();
        let output = output.ok_or_else(|| Error::new(ErrorKind::Format, "there is no output"))?;
        let value = self.graph.value(output);
        let shape = value.ty.as_ref().and_then(|t| t.shape.as_deref());
        if !matches!(shape, Some([_, Dim::Known(_)])) || self.is_softmax(output) {
            let message = format!("output '{}' is not one row of scores per sample", value.name);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .hint("cross-entropy takes scores before the softmax; distil instead"));
        }
        let output = format!("{}/{}", self.name, value.name);
        Ok(Target { output, loss: "cross_entropy", file: file.to_owned(), weight: 1.0 })
    }

    fn is_softmax(&self, value: ValueId) -> bool {
        let producer = self.graph.producer(value).map(|id| self.graph.node(id));
        producer.is_some_and(|node| node.is("Softmax") || node.is("LogSoftmax"))
    }
}

/// The arrays of a task, in order of appearance.
struct Columns<'a> {
    net: &'a Net<'a>,
    /// Rows of each array.
    rows: usize,
    all: Vec<(Column, NpyFile)>,
}

/// One array: samples of an input, or an output of the teacher.
struct Column {
    role: &'static str,
    /// Name in the task's net.
    name: String,
    file: String,
    /// Number, sum and sum of squares of the elements, where they are floats.
    moments: [f64; 3],
}

impl Column {
    /// The variance of the elements; 1 if all are equal.
    fn variance(&self) -> f64 {
        let [n, sum, squares] = self.moments;
        let variance = squares / n - (sum / n).powi(2);
        // Equal elements leave a rounding error of about this size.
        if variance > 1e-12 * squares / n { variance } else { 1.0 }
    }
}

impl Columns<'_> {
    /// Appends a batch to its array, which begins with the first batch.
    fn push(&mut self, role: &'static str, name: &str, batch: &HostArray) -> Result<()> {
        let known = self.all.iter().position(|(c, _)| c.role == role && c.name == name);
        let at = match known {
            Some(at) => at,
            None => {
                let of_role = self.all.iter().filter(|(c, _)| c.role == role).count();
                let file = format!("task{}_{role}{of_role}.npy", self.net.number);
                let array = NpyFile::create(&self.net.folder.join(&file), self.rows, batch)?;
                let column = Column { role, name: name.to_owned(), file, moments: [0.0; 3] };
                self.all.push((column, array));
                self.all.len() - 1
            }
        };
        let Some((column, array)) = self.all.get_mut(at) else { return Ok(()) };
        if role == "output"
            && let Some(view) = batch.f32_view()
        {
            let [n, sum, squares] = &mut column.moments;
            *n += view.len() as f64;
            *sum += view.iter().map(|v| f64::from(*v)).sum::<f64>();
            *squares += view.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        }
        array.push(batch)
    }

    fn finish(self) -> Result<Vec<Column>> {
        let closed = self.all.into_iter().map(|(column, array)| array.finish().map(|()| column));
        closed.collect()
    }
}
