//! The forms of a joint model's graph.

mod absent;
pub(crate) mod extents;
pub(crate) mod gates;
pub(crate) mod masked;
pub(crate) mod switch;

/// Form of the joint graph. All forms of one joint model compute the same functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// All tasks in one run: a common trunk, then a branch per task. Static shapes, no `If`.
    #[default]
    Heads,
    /// An input `task` selects the task; gates mask the task-specific branches of the others, and
    /// shared neurons are computed once. Outputs of the other tasks are zero.
    Masked,
    /// An input `task` selects the branch of an `If`. Outputs of the other tasks are zero.
    Switch,
}

/// All forms with their names and a line of help, for the command line and its documentation.
pub const FORMS: &[(&str, Form, &str)] = &[
    ("heads", Form::Heads, "all tasks in one run: shared trunk, one head per task"),
    ("masked", Form::Masked, "input `task` selects a task; shared neurons are computed once"),
    ("switch", Form::Switch, "input `task` selects a task through `If`"),
];

impl Form {
    /// The form called `name`.
    pub fn named(name: &str) -> Option<Form> {
        FORMS.iter().find(|(n, ..)| *n == name).map(|(_, form, _)| *form)
    }

    /// The form's name.
    pub fn name(self) -> &'static str {
        FORMS.iter().find(|(_, form, _)| *form == self).map_or("", |(name, ..)| name)
    }
}
