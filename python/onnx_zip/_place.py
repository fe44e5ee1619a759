"""Where things are: ONNX Runtime's library, and this program."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from . import _native


def find_onnxruntime():
    """Tells where the ``onnxruntime`` of this environment keeps its library, without importing it."""
    try:
        spec = find_spec("onnxruntime")
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "capi"
    if any(folder.glob("*onnxruntime.*")):
        _native.look_in(str(folder))


def program():
    """The command that starts the command line in this environment."""
    return [sys.executable, "-m", "onnx_zip"]


def written(output, write):
    """What ``write`` returns for the file ``output``; without one, the bytes that it writes."""
    if output is not None:
        return write(os.fspath(output))
    with TemporaryDirectory(prefix="onnx-zip-") as folder:
        path = Path(folder) / "model.onnx"
        write(str(path))
        return path.read_bytes()
