#!/usr/bin/env python3
"""Compares CUDA with the CPU: backend tests, merges, retraining, and what is said where a part is missing.

    prove.py --tool FILE [--suite FILE] [--libraries DIR] [--fixtures DIR] [--small]

Writes $OUT/gpu.md and $OUT/gpu.json (out/gpu without OUT) after every step, so that a run which is cut
short leaves what it has. Exit code 1 where something failed that had to work.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cases
from tables import Results

ROOT = Path(__file__).resolve().parent.parent.parent
# Of the largest output: what float32 sums in another order may differ by.
ROUNDING = 1e-3
# Of statistics for one layer.
ROWS = 65536
# Samples of a task in a step of training.
BATCH = 64
TIMEOUT = 100


class Machine:
    """The tool and what it needs to find on this machine."""

    def __init__(self, arguments: argparse.Namespace):
        self.tool = arguments.tool.resolve()
        self.suite = arguments.suite and arguments.suite.resolve()
        self.environment = dict(os.environ)
        self.library = None
        own = []
        if arguments.libraries:
            self.library = next(arguments.libraries.resolve().glob("libonnxruntime.so.*"))
            self.environment["ORT_DYLIB_PATH"] = str(self.library)
            own = [str(self.library.parent)]
        self.nvidia = nvidia_folders()
        self.set_path(own + self.nvidia)
        self.own = own

    def set_path(self, folders: list[str]) -> None:
        given = os.environ.get("LD_LIBRARY_PATH", "")
        self.environment["LD_LIBRARY_PATH"] = ":".join(folders + [given] * bool(given))

    def run(self, *command: object, **more: str) -> tuple[subprocess.CompletedProcess, float]:
        """Runs a command, whether it works or not; seconds by the wall."""
        start = time.monotonic()
        try:
            done = subprocess.run([str(part) for part in command], env={**self.environment, **more},
                                  capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            what = Path(command[0]).name, *command[1:2]
            raise RuntimeError(f"{' '.join(map(str, what))} took more than {TIMEOUT} s") from None
        return done, time.monotonic() - start

    def must(self, *command: object, **more: str) -> float:
        done, seconds = self.run(*command, **more)
        if done.returncode:
            raise RuntimeError(last_line(done.stderr) or last_line(done.stdout))
        return seconds


def nvidia_folders() -> list[str]:
    """Where Python's packages keep NVIDIA's libraries, and the driver's usual folders."""
    packages = [folder for path in sys.path for folder in sorted(Path(path or ".").glob("nvidia/*/lib"))]
    usual = [Path("/usr/local/nvidia/lib64"), Path("/usr/local/cuda/lib64")]
    return [str(folder) for folder in packages + [f for f in usual if f.is_dir()]]


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


class Case:
    """Two nets with samples for both."""

    def __init__(self, name: str, nets: list[Path], data: list[object], samples: int, steps: int):
        self.name, self.nets, self.steps = name, nets, steps
        self.data = [*data, "--samples", samples]

    def merge(self, machine: Machine, device: str, folder: Path) -> dict:
        """The joint model in `folder`, and what the merge reports of itself."""
        report = folder / f"{device}.json"
        wall = machine.must(machine.tool, "merge", *self.nets, "-o", folder / f"{device}.onnx", "--name", "a",
                            "--name", "b", *self.data, "--max-rows", ROWS, "--device", device, "--report",
                            report)
        told = json.loads(report.read_text())
        stages = {stage["stage"]: stage["seconds"] for stage in told["seconds"]}
        computing = sum(s for stage, s in stages.items() if stage not in ("read", "write", "verify"))
        stages["statistics"] = sum(layer["seconds"][0] for layer in told["layers"])
        between = [runtime["first_runtime"]["relative"] for task in told["verification"]["tasks"]
                   for output in task["outputs"] for runtime in output["runtimes"]
                   if runtime["first_runtime"]]
        return {"runtime": told["runtime"], "seconds": computing, "wall": wall, "stages": stages,
                "against_tract": max(between, default=None)}

    @staticmethod
    def joint(folder: Path) -> Path:
        """The joint model that both devices train, so that the same is compared."""
        return next(folder / name for name in ("cpu.onnx", "cuda.onnx") if (folder / name).exists())

    def steps_per_second(self, machine: Machine, device: str, folder: Path) -> dict:
        few = max(2, self.steps // 10)

        def train(steps: int, name: str) -> float:
            return machine.must(
                machine.tool, "retrain", self.joint(folder), "--teacher", self.nets[0], "--teacher",
                self.nets[1], *self.data, "--device", device, "--iterations", steps, "--batch", BATCH,
                "--validation", 0, "--no-verify", "-o", folder / f"{device}_{name}.onnx")

        start = train(few, "few")
        return {"steps_per_second": self.steps / (train(few + self.steps, "many") - start)}


def deviation(first: Path, second: Path) -> float | None:
    """The largest difference of outputs over the largest output, in Python's ONNX Runtime on the CPU; None
    where there is nothing to compare or nothing to compare it with."""
    try:
        import numpy as np
        import onnxruntime
    except ImportError:
        return None
    if not (first.exists() and second.exists()):
        return None
    outputs = []
    for path in (first, second):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(7)
        feeds = {}
        for given in session.get_inputs():
            sizes = [64 if isinstance(size, str) or size is None else size for size in given.shape]
            feeds[given.name] = random.uniform(0, 1, sizes).astype(np.float32)
        outputs.append([np.asarray(y, np.float64) for y in session.run(None, feeds)])
    return max(float(abs(a - b).max() / abs(a).max()) for a, b in zip(*outputs))


def all_cases(fixtures: Path, folder: Path, small: bool) -> list[Case]:
    models, data = fixtures / "models", fixtures / "data"
    both = ["--data", data / "mnist_train.npz", "--data", data / "fashion_train.npz", "--scale", "1/255"]
    resnet = [models / "zoo" / f"resnet_{name}.onnx" for name in ("mnist", "fashion")]
    widths = [8, 8, 16, 16] if small else [64, 64, 128, 128, 256, 256, 512, 512]
    images = 64 if small else 512
    stack = [folder / "stack_a.onnx", folder / "stack_b.onnx"]
    for seed, path in enumerate(stack, 2):
        cases.conv_stack(path, seed, widths)
    cases.random_images(folder / "images.npy", images)
    made_up = ["--data", folder / "images.npy"]
    return [
        Case("ResNet pair", resnet, both, 300 if small else 4000, 20 if small else 300),
        Case(f"conv stack to {widths[-1]} channels", stack, made_up, images, 20 if small else 40),
    ]


def prove_suite(machine: Machine, results: Results) -> None:
    done, seconds = machine.run(machine.suite, "runtime::suite", "--test-threads", 4,
                                ONNX_ZIP_TEST_DEVICE="cuda:0")
    counts = re.search(r"(\d+) passed; (\d+) failed", done.stdout)
    failed = re.findall(r"^test (\S+) \.\.\. FAILED", done.stdout, re.M)
    said = f"{counts[1]} passed, {counts[2]} failed" if counts else last_line(done.stdout + done.stderr)
    results.say("backend tests on CUDA", said, seconds, done.returncode == 0)
    if done.returncode:
        results.detail("backend tests", {"failed": failed, "output": (done.stdout + done.stderr)[-6000:]})


def prove_errors(machine: Machine, results: Results) -> None:
    """What is said where a device, the driver or cuDNN is missing: one sentence each."""
    net = cases.FIXTURES / "models" / "lenet300_mnist_a.onnx"
    with tempfile.TemporaryDirectory() as folder:
        merge = [machine.tool, "merge", net, net, "--samples", 64, "-o", Path(folder) / "joint.onnx"]

        def refusal(what: str, device: str, **more: str) -> None:
            done, seconds = machine.run(*merge, "--device", device, **more)
            sentence = last_line(done.stderr)
            results.say(what, sentence, seconds, done.returncode == 2 and "cannot be used" in sentence)

        refusal("device that is not there", "cuda:99")
        refusal("no GPU in sight", "cuda", CUDA_VISIBLE_DEVICES="")
        if "libcudnn.so" in machine.run("ldconfig", "-p")[0].stdout:
            return
        without = [f for f in machine.own + machine.nvidia if not list(Path(f).glob("libcudnn.so*"))]
        machine.set_path(without)
        refusal("cuDNN not in the library path", "cuda")
        done, seconds = machine.run(*merge, "--device", "auto")
        notes = [line for line in done.stderr.splitlines() if line.startswith("note:")]
        results.say("the same with --device auto", last_line("\n".join(notes)), seconds,
                    done.returncode == 0 and bool(notes))
        machine.set_path(machine.own + machine.nvidia)


def why_no_cuda(machine: Machine) -> str | None:
    """What the tool says of CUDA here, or None where it computes with it."""
    net = cases.FIXTURES / "models" / "lenet300_mnist_a.onnx"
    with tempfile.TemporaryDirectory() as folder:
        done, _ = machine.run(machine.tool, "merge", net, net, "--samples", 64, "--no-verify", "--device",
                              "cuda", "-o", Path(folder) / "joint.onnx")
    return last_line(done.stderr) if done.returncode else None


def compare(machine: Machine, case: Case, devices: list[str], folder: Path, results: Results) -> None:
    def merge(device: str) -> None:
        results.merge(case.name, device, case.merge(machine, device, folder))

    def train(device: str) -> None:
        results.training(case.name, device, case.steps_per_second(machine, device, folder))

    for device in devices:
        results.attempt(f"{case.name}, merge on {device}", lambda d=device: merge(d))
    for device in devices:
        results.attempt(f"{case.name}, training on {device}", lambda d=device: train(d))
    results.agreement(case.name, "joint models",
                      deviation(folder / "cpu.onnx", folder / "cuda.onnx"), ROUNDING)
    results.agreement(case.name, "joint models after a few steps of training",
                      deviation(folder / "cpu_few.onnx", folder / "cuda_few.onnx"), None)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, required=True, metavar="FILE")
    parser.add_argument("--suite", type=Path, metavar="FILE", help="the unit tests' executable")
    parser.add_argument("--libraries", type=Path, metavar="DIR", help="ONNX Runtime for CUDA")
    parser.add_argument("--fixtures", type=Path, default=cases.FIXTURES, metavar="DIR")
    parser.add_argument("--small", action="store_true", help="few samples, steps and channels")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    machine = Machine(arguments)
    results = Results(Path(os.environ.get("OUT") or ROOT / "out" / "gpu"))
    reason = why_no_cuda(machine)
    devices = ["cpu"] if reason else ["cuda", "cpu"]
    results.machine(reason)
    if not reason:
        if machine.suite:
            results.attempt("backend tests", lambda: prove_suite(machine, results))
        results.attempt("errors", lambda: prove_errors(machine, results))
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(all_cases(arguments.fixtures, Path(folder), arguments.small)):
            own = Path(folder) / str(number)
            own.mkdir()
            compare(machine, case, devices, own, results)
    results.close()
    sys.exit(1 if results.failures or (arguments.libraries and reason) else 0)


if __name__ == "__main__":
    main()
