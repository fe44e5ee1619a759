"""What the experiments of docs/results.md have in common: the tool, the data, tables.

The tool is `target/release/onnx-zip`, or what ONNX_ZIP names. What an experiment makes stays in
out/results/; a joint model that is there already is not made again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime as ort

ROOT = Path(__file__).resolve().parent.parent
TOOL = os.environ.get("ONNX_ZIP", str(ROOT / "target" / "release" / "onnx-zip"))
MODELS = ROOT / "fixtures" / "models"
DATA = ROOT / "fixtures" / "data"
OUT = ROOT / "out" / "results"
# Most experiments share neurons, as the paper does; the tool shares whole layers unless told so.
NEURONS = ("--unit", "neuron")


def tool(*arguments: object) -> str:
    """Run the tool; what it prints. Ends the experiment, with the tool's words, if it fails."""
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"onnx-zip {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def data_options(files: list[Path]) -> list[object]:
    """Samples of each model, pixels divided by 255."""
    return [word for file in files for word in ("--data", file)] + ["--scale", "1/255"]


def merge(joint: Path, models: list[Path], train: list[Path], *options: object) -> dict:
    """Merge, unless `joint` was made before; the report."""
    report = joint.with_suffix(".json")
    if not report.exists():
        joint.parent.mkdir(parents=True, exist_ok=True)
        tool(
            *("merge", *models, "-o", joint, "--report", report, "--no-verify"),
            *(*data_options(train), *options),
        )
    return json.loads(report.read_text())


def errors(joint: Path, models: list[Path], test: list[Path]) -> list[tuple[float, float]]:
    """Each task's error in percent, of the original and of the joint model, in ONNX Runtime."""
    tasks = [output.name for output in session(joint).get_outputs()]
    return [
        (error(model, None, samples), error(joint, task, samples))
        for task, model, samples in zip(tasks, models, test)
    ]


def error(model: Path, output: str | None, samples: Path) -> float:
    """Samples, in percent, for which an output, or the only one, names another class."""
    key = f"{model.name} {output} {samples.name} {digest(model)}"
    return known(key, lambda: apart(answers(model, output, samples), np.load(samples)["labels"]))


def differing(joint: Path, models: list[Path], test: list[Path]) -> list[float]:
    """Each task's answers, in percent, that are not its original's: a finer measure than errors."""
    tasks = [output.name for output in session(joint).get_outputs()]
    return [difference(joint, task, *each) for task, *each in zip(tasks, models, test)]


def difference(joint: Path, task: str, model: Path, samples: Path) -> float:
    def measure() -> float:
        return apart(answers(joint, task, samples), answers(model, None, samples))

    return known(f"{joint.name} {task} {samples.name} {digest(joint)} {digest(model)}", measure)


def digest(model: Path) -> str:
    return sha256(model.read_bytes()).hexdigest()


def known(key: str, measure: Callable[[], float]) -> float:
    """A number that was measured before, or is measured now."""
    path = OUT / "errors.json"
    numbers = json.loads(path.read_text()) if path.exists() else {}
    if key not in numbers:
        numbers[key] = measure()
        path.write_text(json.dumps(numbers, indent=1))
    return numbers[key]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return 100 * float(np.mean(one != other))


@cache
def answers(model: Path, output: str | None, samples: Path) -> np.ndarray:
    """The class that an output, or the only one, names for each sample."""
    images = np.load(samples)["image"].reshape(-1, 1, 28, 28)
    parts = np.split(images, range(500, len(images), 500))
    run = session(model).run
    names = [output] if output else None
    found = [run(names, {"image": part / np.float32(255)})[0].argmax(axis=1) for part in parts]
    return np.concatenate(found)


def pixels(samples: Path) -> np.ndarray:
    """Images (N, 1, 28, 28) from 0 to 1."""
    return np.load(samples)["image"].reshape(-1, 1, 28, 28) / np.float32(255)


@cache
def session(model: Path) -> ort.InferenceSession:
    """A model, loaded by ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def subset(name: str, count: int, part: int = 0) -> Path:
    """`count` samples of a data file in fixtures/data: the first ones, or those of a later part."""
    path = OUT / (f"{name}_{count}_part{part}.npz" if part else f"{name}_{count}.npz")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = np.load(DATA / f"{name}.npz")
        rows = slice(part * count, (part + 1) * count)
        np.savez(path, **{key: arrays[key][rows] for key in arrays.files})
    return path


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table as documents hold it: the first column to the left, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
