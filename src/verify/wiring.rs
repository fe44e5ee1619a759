//! Assigns the inputs and outputs of a joint model to its tasks.
//!
//! Outputs are called `<task>/<output>`. Separate inputs are called `<task>/<input>`; common ones have
//! the names of the first task's inputs, and inputs of other tasks with one of these names are that input.
//! In forms that compute one task at a time, a last input selects the task by its number.

use crate::emit;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Dim};
use crate::naming::counterparts;
use crate::runtime::Port;

/// The start of the name of the input that selects a task.
const SELECTOR: &str = "task";

/// The tasks of a joint model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// Names of the tasks, in the order of their numbers.
    pub tasks: Vec<String>,
    /// Names of common inputs, or of all tasks' own.
    pub inputs: Vec<String>,
    /// Name of the input that selects the task.
    pub selector: Option<String>,
}

impl Wiring {
    /// Derives the wiring from a model's inputs and outputs.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where an output has no task.
    pub fn of(inputs: &[Port], outputs: &[Port]) -> Result<Self> {
        let mut tasks: Vec<String> = Vec::new();
        for output in outputs {
            let (task, _) = output.name.split_once('/').ok_or_else(|| not_joint(&output.name))?;
            if !tasks.iter().any(|t| t == task) {
                tasks.push(task.to_owned());
            }
        }
        let mut names: Vec<String> = inputs.iter().map(|p| p.name.clone()).collect();
        let selector = inputs.last().is_some_and(is_selector).then(|| names.pop()).flatten();
        Ok(Wiring { tasks, inputs: names, selector })
    }

    /// Whether each task has inputs of its own.
    pub fn separate(&self) -> bool {
        emit::inputs_are_separate(&self.tasks, &self.inputs)
    }

    /// The joint model's inputs for a task whose net has the inputs `own`, in their order; `None` if the
    /// task has another number of inputs.
    pub fn inputs_of(&self, task: &str, own: &[&str]) -> Option<Vec<&str>> {
        let all = self.inputs.iter().map(String::as_str);
        let (inputs, names): (Vec<&str>, Vec<&str>) = match self.separate() {
            true => all
                .filter_map(|input| Some((input, input.split_once('/')?)))
                .filter_map(|(input, (owner, name))| (owner == task).then_some((input, name)))
                .unzip(),
            false => all.zip(self.common_names()).unzip(),
        };
        let places = counterparts(&names, own)?;
        places.into_iter().map(|place| inputs.get(place).copied()).collect()
    }

    /// The names of common inputs in the first task's net.
    fn common_names(&self) -> Vec<&str> {
        let bare: Option<Vec<&str>> =
            self.inputs.iter().map(|input| input.strip_prefix(emit::COMMON_INPUT)).collect();
        let is_renamed = |names: &Vec<&str>| emit::inputs_are_separate(&self.tasks, names);
        let given = || self.inputs.iter().map(String::as_str).collect();
        bare.filter(is_renamed).unwrap_or_else(given)
    }
}

fn is_selector(port: &Port) -> bool {
    let name = port.name == SELECTOR
        || port.name.strip_prefix(SELECTOR).is_some_and(|rest| rest.starts_with('.'));
    name && port.dtype == DataType::I64 && matches!(port.shape.as_deref(), Some([Dim::Known(1)]))
}

fn not_joint(output: &str) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("this is no joint model: its output '{output}' names no task"),
    )
    .hint("give the file that `onnx-zip merge` wrote")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, dtype: DataType, size: usize) -> Port {
        Port { name: name.into(), dtype, shape: Some(vec![Dim::Known(size)]) }
    }

    fn floats(names: &[&str]) -> Vec<Port> {
        names.iter().map(|n| port(n, DataType::F32, 4)).collect()
    }

    #[test]
    fn common_and_separate_inputs_are_told_apart() {
        let outputs = floats(&["a/y", "b/z", "a//head/y"]);
        let common = Wiring::of(&floats(&["x", "u"]), &outputs).unwrap();
        assert_eq!(common.tasks, ["a", "b"]);
        assert_eq!(common.inputs_of("b", &["x", "u"]).unwrap(), ["x", "u"]);
        assert_eq!(common.inputs_of("b", &["u", "x"]).unwrap(), ["u", "x"]);
        assert_eq!(common.inputs_of("b", &["v", "x"]).unwrap(), ["u", "x"]);
        assert_eq!(common.inputs_of("b", &["x"]), None);
        let separate = Wiring::of(&floats(&["a/x", "a/u", "b/x"]), &outputs).unwrap();
        assert!(separate.separate() && !common.separate());
        assert_eq!(separate.inputs_of("a", &["u", "x"]).unwrap(), ["a/u", "a/x"]);
        assert_eq!(separate.inputs_of("b", &["x"]).unwrap(), ["b/x"]);
    }

    #[test]
    fn common_inputs_that_look_like_separate_ones_are_called_shared() {
        let outputs = floats(&["a/y", "b/y"]);
        let wiring = Wiring::of(&floats(&["shared/a/x", "shared/b/x"]), &outputs).unwrap();
        let names = wiring.inputs_of("b", &["b/x", "a/x"]).unwrap();
        assert_eq!(names, ["shared/b/x", "shared/a/x"]);
    }

    #[test]
    fn a_common_input_may_be_called_like_one_of_a_task() {
        let outputs = floats(&["A/y", "B/y"]);
        let wiring = Wiring::of(&floats(&["A/x"]), &outputs).unwrap();
        assert!(!wiring.separate());
        assert_eq!(wiring.inputs_of("B", &["x"]).unwrap(), ["A/x"]);
    }

    #[test]
    fn the_selector_is_the_last_input_of_its_type() {
        let outputs = floats(&["a/y", "b/y"]);
        let mut inputs = floats(&["task"]);
        assert_eq!(Wiring::of(&inputs, &outputs).unwrap().selector, None);
        inputs.push(port("task.1", DataType::I64, 1));
        let wiring = Wiring::of(&inputs, &outputs).unwrap();
        assert_eq!(wiring.selector.as_deref(), Some("task.1"));
        assert_eq!(wiring.inputs_of("b", &["task"]).unwrap(), ["task"]);
    }

    #[test]
    fn a_plain_model_is_refused() {
        let error = Wiring::of(&floats(&["x"]), &floats(&["y"])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
    }
}
