//! A recurrence in ONNX Runtime: the state stays on the device, by way of IO binding.

use ::ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ::ort::session::IoBinding;
use ::ort::value::{DynTensorValueType, DynValue, Tensor};

use super::super::array::with_array;
use super::super::port::in_port_order;
use super::super::recurrence::{Recurrence, State, wiring};
use super::super::shield::shielded;
use super::super::{HostArray, ModelSource, Port, Session};
use super::session::{OrtSession, from_value};
use super::{OnnxRuntime, failed};
use crate::error::{Error, ErrorKind, Result};

pub(super) struct OrtRecurrence {
    /// Values on the device, freed before the session that allocated them.
    states: Vec<Kept>,
    binding: IoBinding,
    session: OrtSession,
    /// The inputs that are not states.
    inputs: Vec<Port>,
    /// For each output, the number of its state; `None` for other outputs.
    is_state: Vec<Option<usize>>,
    /// Where state is kept.
    memory: MemoryInfo<'static>,
}

struct Kept {
    input: String,
    output: String,
    value: DynValue,
}

impl OrtRecurrence {
    pub(super) fn load(
        runtime: &OnnxRuntime,
        source: ModelSource<'_>,
        states: Vec<State>,
    ) -> Result<Self> {
        let session = OrtSession::holding(runtime, source)?;
        let outputs: Vec<&str> = session.outputs().iter().map(|p| p.name.as_str()).collect();
        let is_state = wiring(&states, &outputs)?;
        let is_input = |p: &&Port| states.iter().all(|s| s.input != p.name);
        let inputs: Vec<Port> = session.inputs().iter().filter(is_input).cloned().collect();
        let (device, number) = match runtime.cuda {
            Some(number) => (AllocationDevice::CUDA, i32::try_from(number).unwrap_or(i32::MAX)),
            None => (AllocationDevice::CPU, 0),
        };
        let memory = MemoryInfo::new(device, number, AllocatorType::Device, MemoryType::Default)
            .map_err(failed)?;
        let binding = session.inner.create_binding().map_err(failed)?;
        let states = states
            .into_iter()
            .map(|s| Ok(Kept { input: s.input, output: s.output, value: to_value(&s.value)? }))
            .collect::<Result<_>>()?;
        Ok(OrtRecurrence { states, binding, session, inputs, is_state, memory })
    }

    /// Binds inputs, state and places for the results.
    fn bind(&mut self, arrays: &[&HostArray]) -> Result<()> {
        for (port, array) in self.inputs.iter().zip(arrays) {
            let value = to_value(array)?;
            self.binding.bind_input(port.name.as_str(), &value).map_err(failed)?;
        }
        for state in &self.states {
            self.binding.bind_input(state.input.as_str(), &state.value).map_err(failed)?;
        }
        let host =
            MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)
                .map_err(failed)?;
        // Outputs are bound anew in every step. Old bindings refer to the last results, which are the
        // inputs of this step and must not be overwritten.
        self.binding.clear_outputs();
        for (port, is_state) in self.session.outputs().iter().zip(&self.is_state) {
            let memory = if is_state.is_some() { &self.memory } else { &host };
            self.binding.bind_output_to_device(port.name.as_str(), memory).map_err(failed)?;
        }
        Ok(())
    }
}

impl Recurrence for OrtRecurrence {
    fn step(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
        let arrays = in_port_order(&self.inputs, inputs)?;
        shielded("training in ONNX Runtime", || {
            self.bind(&arrays)?;
            let OrtRecurrence { session, binding, states, is_state, .. } = self;
            let mut results = session.inner.run_binding(binding).map_err(failed)?;
            let mut others = Vec::new();
            for (port, is_state) in session.outputs.iter().zip(is_state.iter()) {
                let value = results.remove(port.name.as_str()).ok_or_else(|| {
                    let message = format!("ONNX Runtime gives no output '{}'", port.name);
                    Error::new(ErrorKind::Backend, message)
                })?;
                match is_state.and_then(|n| states.get_mut(n)) {
                    Some(state) => state.value = value,
                    None => others.push(from_value(&value, port)?),
                }
            }
            Ok(others)
        })
    }

    fn state(&mut self) -> Result<Vec<HostArray>> {
        shielded("reading what was trained", || {
            let outputs = &self.session.outputs;
            self.states.iter().map(|state| read(state, outputs)).collect()
        })
    }
}

/// A copy of a state in host memory.
fn read(state: &Kept, outputs: &[Port]) -> Result<HostArray> {
    let port = outputs.iter().find(|p| p.name == state.output);
    let port = port.ok_or_else(|| Error::new(ErrorKind::Backend, "a state that is no output"))?;
    let tensor = state.value.view().downcast::<DynTensorValueType>().map_err(failed)?;
    if tensor.memory_info().is_cpu_accessible() {
        return from_value(&state.value, port);
    }
    let copy = tensor.to(AllocationDevice::CPU, 0).map_err(failed)?;
    from_value(&copy.into_dyn(), port)
}

fn to_value(array: &HostArray) -> Result<DynValue> {
    let array = array.row_major();
    with_array!(array.as_ref(), a => {
        Tensor::from_array(a.clone()).map(|tensor| tensor.into_dyn()).map_err(failed)
    }, texts => {
        Tensor::from_string_array(texts).map(|tensor| tensor.into_dyn()).map_err(failed)
    })
}
