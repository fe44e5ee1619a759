//! Ids of tasks, and of groups, layers and channels of their nets.

use serde::{Deserialize, Serialize};

use crate::couple::{Channel, GroupId, LayerId};

/// A task of a joint model, and its net in an alignment, by index.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TaskId(pub usize);

/// A channel group of a task's net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskGroup {
    /// The task.
    pub task: TaskId,
    /// The group.
    pub group: GroupId,
}

/// A layer of a task's net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskLayer {
    /// The task.
    pub task: TaskId,
    /// The layer.
    pub layer: LayerId,
}

/// A channel of a task's net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskChannel {
    /// The task.
    pub task: TaskId,
    /// The channel.
    pub channel: Channel,
}

impl TaskId {
    /// A group of this task's net.
    pub fn group(self, group: GroupId) -> TaskGroup {
        TaskGroup { task: self, group }
    }

    /// A layer of this task's net.
    pub fn layer(self, layer: LayerId) -> TaskLayer {
        TaskLayer { task: self, layer }
    }

    /// A channel of this task's net.
    pub fn channel(self, channel: Channel) -> TaskChannel {
        TaskChannel { task: self, channel }
    }
}

impl TaskGroup {
    /// The group's channel at `index`.
    pub fn channel(self, index: usize) -> TaskChannel {
        self.task.channel(Channel { group: self.group, index })
    }
}
