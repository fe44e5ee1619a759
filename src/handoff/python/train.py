"""Train the joint model with ONNX Runtime, and write trained.onnx.

Makes the artifacts first where there are none. A part of the samples is held out: loss and, where
labels are known, errors on it are printed before and after. Ctrl-C ends the training and keeps what was
learnt so far. Afterwards, `onnx-zip import` takes the weights back into the joint model.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass

import numpy as np
from make_artifacts import ARTIFACTS, FOLDER, make_artifacts, read_manifest, target_name
from onnxruntime import SessionOptions
from ort_training import CheckpointState, LinearLRScheduler, Module, Optimizer

REPORTS = 10


@dataclass
class Task:
    """Samples of one task, by the names of the inputs of the training model."""

    name: str
    output: str
    batch: int
    arrays: dict[str, np.ndarray]
    labels: np.ndarray | None
    train: np.ndarray
    held_out: np.ndarray

    @staticmethod
    def open(entry: dict, batch: int, rng: np.random.Generator) -> "Task":
        def load(file: str) -> np.ndarray:
            return np.load(FOLDER / file, mmap_mode="r")

        arrays = {source["name"]: load(source["file"]) for source in entry["inputs"]}
        arrays |= {target_name(target): load(target["file"]) for target in entry["targets"]}
        labels = load(entry["labels"]) if entry["labels"] else None
        order = rng.permutation(entry["samples"])
        held_out = min(max(1, len(order) // 10), 2000)
        # A single sample is both.
        train = order[held_out:] if len(order) > 1 else order
        output = entry["targets"][0]["output"]
        # Where the net fixes the size of a batch, it has the word.
        batch = entry["batch"] or batch
        return Task(entry["name"], output, batch, arrays, labels, train, order[:held_out])

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.ascontiguousarray(array[indices]) for name, array in self.arrays.items()}

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The samples of one step."""
        few = len(self.train) < self.batch
        return np.sort(rng.choice(self.train, self.batch, replace=few))


def step(module: Module, batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Runs one batch of every task; the outputs by name, the loss first."""
    feeds = {name: array for batch in batches for name, array in batch.items()}
    results = module(*(feeds[name] for name in module.input_names()))
    return dict(zip(module.output_names(), results))


def evaluate(module: Module, tasks: list[Task]) -> tuple[float, dict[str, float]]:
    """Mean loss on the samples held out, and errors in percent of tasks with labels."""
    module.eval()
    losses, wrong, seen = [], {}, {}
    for number in range(max(math.ceil(len(task.held_out) / task.batch) for task in tasks)):
        # Tasks with fewer samples begin again; what was seen before does not count twice.
        places = [np.arange(number * task.batch, (number + 1) * task.batch) for task in tasks]
        chosen = [task.held_out[at % len(task.held_out)] for task, at in zip(tasks, places)]
        outputs = step(module, [task.rows(rows) for task, rows in zip(tasks, chosen)])
        losses.append(float(next(iter(outputs.values()))))
        for task, rows, at in zip(tasks, chosen, places):
            scores = outputs[task.output]
            if task.labels is None or scores.ndim != 2:
                continue
            new = at < len(task.held_out)
            missed = scores.argmax(axis=1) != task.labels[rows]
            wrong[task.name] = wrong.get(task.name, 0) + int(missed[new].sum())
            seen[task.name] = seen.get(task.name, 0) + int(new.sum())
    errors = {name: 100 * wrong[name] / seen[name] for name in wrong if seen[name]}
    return sum(losses) / len(losses), errors


def report(when: str, loss: float, errors: dict[str, float]) -> None:
    texts = [f"{name} {error:.2f} %" for name, error in errors.items()]
    print(f"{when}: loss {loss:.5f}" + (f", error {', '.join(texts)}" if texts else ""), flush=True)


def train(module: Module, optimizer: Optimizer, tasks: list[Task], arguments) -> None:
    rng = np.random.default_rng(arguments.seed)
    rate = arguments.learning_rate
    optimizer.set_learning_rate(rate)
    schedule = LinearLRScheduler(optimizer, 0, arguments.iterations, rate)
    module.train()
    recent, began = [], time.monotonic()
    for iteration in range(1, arguments.iterations + 1):
        outputs = step(module, [task.rows(task.draw(rng)) for task in tasks])
        loss = float(next(iter(outputs.values())))
        if not math.isfinite(loss):
            sys.exit(f"the loss is {loss}: try --learning-rate {rate / 10:g}; nothing was written")
        optimizer.step()
        schedule.step()
        module.lazy_reset_grad()
        recent.append(loss)
        if iteration % max(1, arguments.iterations // REPORTS) == 0:
            speed = iteration / (time.monotonic() - began)
            mean = sum(recent) / len(recent)
            print(f"iteration {iteration}: loss {mean:.5f}, {speed:.1f} iterations/s", flush=True)
            recent = []


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=1000, metavar="N")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="samples of each task")
    parser.add_argument("--learning-rate", type=float, default=5e-4, metavar="R",
                        help="at the beginning; it falls to 0 in a straight line")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, metavar="N",
                        help="within one operator; by default as many as there are cores")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    manifest = read_manifest()
    if not (ARTIFACTS / "checkpoint").exists():
        make_artifacts()
    rng = np.random.default_rng(arguments.seed)
    tasks = [Task.open(entry, arguments.batch, rng) for entry in manifest["tasks"]]
    state = CheckpointState.load_checkpoint(ARTIFACTS / "checkpoint")
    models = [ARTIFACTS / f"{name}_model.onnx" for name in ("training", "eval", "optimizer")]
    options = SessionOptions()
    # Threads that spin while they wait take the cores from everything else on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = arguments.threads
    module = Module(models[0], state, models[1], arguments.device, options)
    optimizer = Optimizer(models[2], module)
    report("before", *evaluate(module, tasks))
    try:
        train(module, optimizer, tasks, arguments)
    except KeyboardInterrupt:
        print("stopped; what was learnt so far is kept", flush=True)
    report("after", *evaluate(module, tasks))
    outputs = module.output_names()[1:]  # the first one is the loss
    module.export_model_for_inferencing(FOLDER / manifest["trained"], outputs)
    print(f"wrote {manifest['trained']}")


if __name__ == "__main__":
    main()
