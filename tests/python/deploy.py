"""What ONNX Runtime's own tools leave of a joint model's saving, and of its answers.

Converts a joint model and its originals to the ORT format, to a model optimised at level ALL, to
float16 and to int8, with the converters of examples/deploy.py. After each, the joint model must be as
small a part of the originals as before, and must compute what it did.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from converters import CONVERTERS, Converted, Feeds, in_runtime, select  # noqa: E402

FLOATS = ("ort", "optimised", "float16_ort")
QUANTISED = ("static", "dynamic")
MARGIN = 0.03
# Of the answers, how many may change where numbers have eight bits.
CHANGED = 0.05
IMAGES = 500


def read(path: Path) -> np.ndarray:
    pixels = np.load(path)["image"][:IMAGES]
    return pixels.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)


def feeds(samples: np.ndarray, form: str, task: int) -> Feeds:
    return {"image": samples} if form == "heads" else select({"image": samples}, task)


def converted(way: str, model: Path, samples: list[Feeds]) -> Converted:
    with tempfile.TemporaryDirectory() as folder:
        return CONVERTERS[way].convert(model, Path(folder), samples)


def check(way: str, arguments: argparse.Namespace) -> str | None:
    """What is wrong after one conversion."""
    form, joint = arguments.form, Path(arguments.joint)
    data = [read(path) for path in arguments.data]
    models = [Path(model) for model in arguments.model]
    samples = [feeds(images, form, task) for task, images in enumerate(data)]
    done = converted(way, joint, samples)
    pairs = zip(models, data)
    both = sum(converted(way, model, [{"image": images}]).size for model, images in pairs)
    before = joint.stat().st_size / sum(model.stat().st_size for model in models)
    print(f"{joint.name}, {way}: {before:.3f} of both before, {done.size / both:.3f} after")
    if done.size / both > before + MARGIN:
        return "the saving is lost"
    original = in_runtime(joint)
    for task, feed in enumerate(samples):
        right, found = original.run(feed)[task], done.run(feed)[task]
        if way in QUANTISED:
            changed = float(np.mean(right.argmax(axis=1) != found.argmax(axis=1)))
            if changed > CHANGED:
                return f"{changed:.1%} of the answers change"
            continue
        off = np.abs(right - found).max() / np.abs(right).max()
        if off > CONVERTERS[way].tolerance:
            return f"outputs are off by {off:.1e}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("joint", metavar="JOINT.onnx")
    parser.add_argument("--form", choices=["heads", "masked", "switch"], default="heads")
    parser.add_argument("--model", action="append", required=True, metavar="MODEL.onnx")
    parser.add_argument("--data", action="append", type=Path, required=True, metavar="DATA.npz")
    arguments = parser.parse_args()
    # ONNX Runtime's quantiser does not look into branches.
    ways = FLOATS if arguments.form == "switch" else FLOATS + QUANTISED
    faults = {way: fault for way in ways if (fault := check(way, arguments))}
    for way, fault in faults.items():
        print(f"FAIL  {arguments.joint}, {way}: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
