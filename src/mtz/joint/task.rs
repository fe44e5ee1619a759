//! One task of a joint model.

use crate::canon::Canonical;
use crate::couple::{CoupledLayer, Coupling, LayerId};
use crate::error::Result;
use crate::ir::{Graph, Model};

use super::tied::{coupled, joined};

/// One task of a joint model.
#[derive(Debug, Clone)]
pub struct Task {
    pub(super) name: String,
    pub(super) model: Model,
    coupling: Coupling,
}

impl Task {
    /// A task from a canonical model.
    ///
    /// # Errors
    /// As [`Coupling::of`].
    pub fn new(name: impl Into<String>, model: Canonical) -> Result<Self> {
        let coupling = Coupling::of(&model.graph)?;
        let (model, coupling) = joined(model, coupling)?;
        Ok(Task { name: name.into(), model, coupling })
    }

    /// A task of a net that is merged for the first time.
    ///
    /// # Errors
    /// As [`Task::new`].
    pub fn fresh(name: impl Into<String>, model: Canonical) -> Result<Self> {
        let (model, coupling) = coupled(model)?;
        Ok(Task { name: name.into(), model, coupling })
    }

    /// The task with another canonical model.
    ///
    /// # Errors
    /// As [`Coupling::of`].
    pub(super) fn with_model(&self, model: Model) -> Result<Self> {
        let coupling = Coupling::of(&model.graph)?;
        Ok(Task { name: self.name.clone(), model, coupling })
    }

    /// Name; prefix of the task's outputs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The task's net, canonical, with its current weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The net's graph.
    pub fn graph(&self) -> &Graph {
        &self.model.graph
    }

    /// Channel structure of the net.
    pub fn coupling(&self) -> &Coupling {
        &self.coupling
    }

    /// A layer of the net.
    pub fn layer(&self, id: LayerId) -> &CoupledLayer {
        self.coupling.layer(id)
    }
}
