"""Compare a joint model with the original models in ONNX Runtime, on seeded random inputs.

Joint outputs are named `<task>/<output>`; joint inputs are `<task>/<input>`, or shared by all tasks
in the order of the first model. The `masked` and `switch` forms take one more input, `task`, that
selects the task by its index; other tasks' outputs of such a run may hold anything.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import onnxruntime

SELECTOR = "task"
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


@dataclass
class Task:
    """One original model under its name in the joint model."""

    name: str
    session: onnxruntime.InferenceSession


def open_session(path: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def random_tensor(node, dims: dict[str, int], batch: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform in 0…1 (integers: 0 or 1); free dimensions by name, otherwise `batch`."""
    if node.type not in TYPES:
        raise ValueError(f"input {node.name} has type {node.type}, which this check cannot fill")
    shape = [size if isinstance(size, int) else dims.get(size, batch) for size in node.shape]
    dtype = TYPES[node.type]
    if not np.issubdtype(dtype, np.floating):
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.random(shape).astype(dtype)


def original_feed(task: Task, joint_feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values of the joint inputs that belong to `task`, under the original names."""
    own = [node.name for node in task.session.get_inputs()]
    if all(f"{task.name}/{name}" in joint_feed for name in own):
        return {name: joint_feed[f"{task.name}/{name}"] for name in own}
    if len(own) != len(joint_feed):
        raise ValueError(f"{task.name} has {len(own)} inputs, the joint model {len(joint_feed)}")
    return dict(zip(own, joint_feed.values()))


def deviation(joint: np.ndarray, original: np.ndarray) -> tuple[float, float]:
    """Largest absolute deviation, and the same relative to the original's largest magnitude."""
    if joint.shape != original.shape:
        raise ValueError(f"shape {joint.shape} instead of {original.shape}")
    if not np.isfinite(joint).all():
        raise ValueError("NaN or infinite values")
    joint, original = joint.astype(np.float64), original.astype(np.float64)
    largest = np.abs(joint - original).max(initial=0.0)
    return largest, largest / max(np.abs(original).max(initial=0.0), np.finfo(np.float32).tiny)


def compare(joint, tasks: list[Task], arguments) -> float:
    """Print one line per output; the largest relative deviation of all."""
    rng = np.random.default_rng(arguments.seed)
    inputs = {node.name: node for node in joint.get_inputs()}
    selects = arguments.form != "heads"
    if selects != (SELECTOR in inputs):
        raise ValueError(f"the inputs {sorted(inputs)} are not those of form {arguments.form}")
    selector = inputs.pop(SELECTOR, None)
    dims = dict(arguments.dim)
    feed = {n: random_tensor(node, dims, arguments.batch, rng) for n, node in inputs.items()}
    worst = 0.0
    for index, task in enumerate(tasks):
        names = [node.name for node in task.session.get_outputs()]
        if selects:
            feed[SELECTOR] = np.full(selector.shape, index, TYPES[selector.type])
        results = joint.run([f"{task.name}/{name}" for name in names], feed)
        feed.pop(SELECTOR, None)
        originals = task.session.run(names, original_feed(task, feed))
        for name, result, original in zip(names, results, originals):
            absolute, relative = deviation(result, original)
            print(f"{task.name}/{name}: max abs {absolute:.3e}, max rel {relative:.3e}")
            worst = max(worst, relative)
    return worst


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def size(text: str) -> tuple[str, int]:
    name, value = pair(text)
    return name, int(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("joint", metavar="JOINT.onnx")
    parser.add_argument("--task", action="append", type=pair, required=True, metavar="NAME=MODEL")
    parser.add_argument("--form", choices=["heads", "masked", "switch"], default="heads")
    parser.add_argument("--tolerance", type=float, help="fail above this relative deviation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=5, help="size of free dimensions")
    parser.add_argument("--dim", action="append", type=size, default=[], metavar="NAME=SIZE")
    arguments = parser.parse_args()
    tasks = [Task(name, open_session(path)) for name, path in arguments.task]
    worst = compare(open_session(arguments.joint), tasks, arguments)
    if arguments.tolerance is not None and worst > arguments.tolerance:
        print(f"deviation {worst:.3e} is above {arguments.tolerance:.3e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"parity.py: {error}")
