"""Test error of a classifier in ONNX Runtime, in percent, on an .npz of `image` and `labels`."""

import argparse
import sys
from fractions import Fraction

import numpy as np
import onnxruntime

BATCH = 500


def error_rate(model: str, data: str, scale: float) -> float:
    """Percentage of images whose largest logit is not their label."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    node = session.get_inputs()[0]
    arrays = np.load(data)
    images = arrays["image"].reshape(-1, *node.shape[1:])
    wrong = 0
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].astype(np.float32) * np.float32(scale)
        logits = session.run(None, {node.name: part})[0]
        wrong += int((logits.argmax(1) != arrays["labels"][start : start + BATCH]).sum())
    return 100 * wrong / len(images)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", metavar="DATA.npz")
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--scale", type=Fraction, default=Fraction(1, 255))
    parser.add_argument("--at-most", type=float, help="fail above this error, in percent")
    arguments = parser.parse_args()
    limit = float("inf") if arguments.at_most is None else arguments.at_most
    failed = False
    for model in arguments.models:
        error = error_rate(model, arguments.data, float(arguments.scale))
        failed |= error > limit
        print(f"{'FAIL' if error > limit else 'OK  '}  {model}: {error:.2f} % wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
