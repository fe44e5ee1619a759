"""Trained nets and their samples."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(os.environ.get("ONNX_ZIP_FIXTURES", Path(__file__).parents[2] / "fixtures"))

# One run after the other may take a core only; results do not depend on it.
QUICK = {"samples": 400, "no_compare": True, "share": 1}


def run(*words, **options):
    """Runs the command line."""
    command = [sys.executable, "-m", "onnx_zip", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def digits():
    """A net for digits."""
    return FIXTURES / "models" / "lenet300_mnist_a.onnx"


@pytest.fixture
def others():
    """Another net for digits."""
    return FIXTURES / "models" / "lenet300_mnist_b.onnx"


@pytest.fixture(scope="session")
def samples():
    """Images and labels of digits, as floats between 0 and 1."""
    with np.load(FIXTURES / "data" / "mnist_test.npz") as file:
        images = file["image"][:600].reshape(-1, 1, 28, 28).astype(np.float32) / 255
        return images, file["labels"][:600].astype(np.int64)


@pytest.fixture
def quick():
    """Options of a short merge."""
    return dict(QUICK)


@pytest.fixture(scope="session")
def merged(samples):
    """A joint model of two nets, merged once for all tests that only look at it."""
    import onnx_zip

    models = {
        "a": FIXTURES / "models" / "lenet300_mnist_a.onnx",
        "b": FIXTURES / "models" / "lenet300_mnist_b.onnx",
    }
    return onnx_zip.merge(models, data=samples, **QUICK)
