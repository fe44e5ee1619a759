//! Models that pass state from one run to the next.

use super::{HostArray, Session};
use crate::error::{Error, ErrorKind, Result};

/// A state: output `output` is fed to input `input` in the next run.
#[derive(Debug, Clone)]
pub struct State {
    /// Name of the input.
    pub input: String,
    /// Name of the output.
    pub output: String,
    /// The value for the first run.
    pub value: HostArray,
}

/// A loaded model whose state stays on the device.
pub trait Recurrence: Send {
    /// Runs once from the current state. Takes the other inputs, and returns the other outputs in
    /// graph order.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn step(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>>;

    /// A copy of the current state, in the order in which it was given.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where it cannot be copied from the device.
    fn state(&mut self) -> Result<Vec<HostArray>>;
}

/// A recurrence over any session: the state is kept in host memory.
pub(super) struct Copied {
    session: Box<dyn Session>,
    states: Vec<State>,
    /// For each output of the session, the number of its state; `None` for other outputs.
    is_state: Vec<Option<usize>>,
}

impl Copied {
    pub(super) fn new(session: Box<dyn Session>, states: Vec<State>) -> Result<Self> {
        let outputs: Vec<&str> = session.outputs().iter().map(|p| p.name.as_str()).collect();
        let is_state = wiring(&states, &outputs)?;
        Ok(Copied { session, states, is_state })
    }
}

impl Recurrence for Copied {
    fn step(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
        let state = self.states.iter().map(|s| (s.input.as_str(), &s.value));
        let all: Vec<(&str, &HostArray)> = inputs.iter().copied().chain(state).collect();
        let results = self.session.run(&all)?;
        let mut others = Vec::new();
        for (result, is_state) in results.into_iter().zip(&self.is_state) {
            match is_state.and_then(|n| self.states.get_mut(n)) {
                Some(state) => state.value = result,
                None => others.push(result),
            }
        }
        Ok(others)
    }

    fn state(&mut self) -> Result<Vec<HostArray>> {
        Ok(self.states.iter().map(|s| s.value.clone()).collect())
    }
}

/// For each output, the number of its state, if it is one.
///
/// # Errors
/// [`ErrorKind::Backend`] if a state is no output.
pub(super) fn wiring(states: &[State], outputs: &[&str]) -> Result<Vec<Option<usize>>> {
    if let Some(lost) = states.iter().find(|s| !outputs.contains(&s.output.as_str())) {
        return Err(Error::new(
            ErrorKind::Backend,
            format!("the model has no output '{}' to keep", lost.output),
        ));
    }
    Ok(outputs.iter().map(|name| states.iter().position(|s| s.output == **name)).collect())
}
