"""ONNX Runtime's training API without PyTorch.

`onnxruntime.training` imports torch when it is loaded, for parts of it that are not needed here. An
empty package in its place lets the other parts be loaded one by one.
"""

import sys
import types
from pathlib import Path

import onnxruntime

_NAME = "onnxruntime.training"
_FOLDER = Path(onnxruntime.__file__).parent / "training"
if not _FOLDER.is_dir():
    sys.exit(
        f"onnxruntime {onnxruntime.__version__} cannot train: "
        "install requirements.txt into a virtual environment of its own"
    )
if _NAME not in sys.modules:
    sys.modules[_NAME] = types.ModuleType(_NAME)
    sys.modules[_NAME].__path__ = [str(_FOLDER)]
onnxruntime.set_default_logger_severity(3)

from onnxruntime.training import artifacts, onnxblock  # noqa: E402
from onnxruntime.training.api import (  # noqa: E402
    CheckpointState,
    LinearLRScheduler,
    Module,
    Optimizer,
)

__all__ = ["CheckpointState", "LinearLRScheduler", "Module", "Optimizer", "artifacts", "onnxblock"]
