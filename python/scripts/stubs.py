#!/usr/bin/env python3
"""Writes onnx_zip/__init__.pyi from the table of options; with --check, tells whether it is up to date."""

import sys
from pathlib import Path

from onnx_zip._keywords import keywords

STUB = Path(__file__).parents[1] / "onnx_zip" / "__init__.pyi"

HEAD = '''"""Types of onnx_zip, written by stubs.py from the table of options."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from . import errors as errors
from .distributed import RayStatistics
from .errors import Error as Error

__version__: str

_Path = str | os.PathLike[str]
# An onnx.ModelProto counts by its method SerializeToString.
_Model = _Path | bytes | Any
_Models = Mapping[str, _Model] | Sequence[_Model]
_Batch = ArrayLike | Mapping[str, ArrayLike] | Sequence[ArrayLike]
_Samples = _Path | _Batch | Iterable[_Batch]
_Data = _Samples | Mapping[str, _Samples] | Sequence[_Samples] | None
_Progress = bool | Callable[[str, int, int], object]

class Report(Mapping[str, Any]):
    def to_dict(self) -> dict[str, Any]: ...
    def save(self, path: _Path) -> None: ...
    def __getitem__(self, key: str) -> Any: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def _repr_html_(self) -> str | None: ...

class Verification(Report):
    @property
    def passed(self) -> bool: ...
    def __bool__(self) -> bool: ...

class Frontier(Report):
    @property
    def points(self) -> list[dict[str, Any]]: ...
    @property
    def knee(self) -> dict[str, Any] | None: ...

class Joint:
    report: Report | None
    def __init__(self, path: _Path) -> None: ...
    @property
    def path(self) -> Path: ...
    @property
    def tasks(self) -> list[str]: ...
    def save(self, path: _Path) -> int: ...
    @overload
    def extract(self, task: str, path: None = None) -> bytes: ...
    @overload
    def extract(self, task: str, path: _Path) -> None: ...
    def split(self, folder: _Path) -> None: ...
    def to_bytes(self) -> bytes: ...
    def __fspath__(self) -> str: ...
    def _repr_html_(self) -> str | None: ...
'''

# Functions without options.
PLAIN = '''
def inspect(model: _Model) -> Report: ...
@overload
def fix(
    model: _Model,
    inputs: Mapping[str, Any],
    *,
    output: None = None,
    progress: _Progress = False,
) -> bytes: ...
@overload
def fix(
    model: _Model,
    inputs: Mapping[str, Any],
    *,
    output: _Path,
    progress: _Progress = False,
) -> None: ...
@overload
def strip(
    joint: Joint | _Model, *, output: None = None, progress: _Progress = False
) -> bytes: ...
@overload
def strip(joint: Joint | _Model, *, output: _Path, progress: _Progress = False) -> None: ...
def import_weights(folder: _Path, *, progress: _Progress = False) -> Joint: ...
'''

MERGE = (
    "models: _Models | None = None, data: _Data = None, *, plan: _Path | None = None,"
    " allow_changed: bool = False, save_plan: _Path | None = None,"
    " keep_rejected: _Path | None = None, {dry_run}, statistics: RayStatistics | None = None,"
    " progress: _Progress = False"
)
RETRAIN = (
    "joint: Joint | _Path, teachers: _Models = (), data: _Data = None, *, {export},"
    " keep_rejected: _Path | None = None, progress: _Progress = False"
)
PRUNE = "model: _Model, data: _Data = None, *, {output}, progress: _Progress = False"

# Per function: what stands before the options of its command, and what it returns; several for overloads.
FUNCTIONS = {
    "merge": [
        (MERGE.format(dry_run="dry_run: Literal[False] = False"), "Joint"),
        (MERGE.format(dry_run="dry_run: Literal[True]"), "Report"),
    ],
    "plan": [("models: _Models, *", "Report")],
    "frontier": [
        (
            "models: _Models, data: _Data = None, *, statistics: RayStatistics | None = None,"
            " plans: _Path | None = None,"
            " keep: _Path | None = None, progress: _Progress = False",
            "Frontier",
        )
    ],
    "verify": [
        (
            "joint: Joint | _Path, models: _Models, data: _Data = None, *,"
            " progress: _Progress = False",
            "Verification",
        )
    ],
    "retrain": [
        (RETRAIN.format(export="export: None = None"), "Joint"),
        (RETRAIN.format(export="export: _Path"), "None"),
    ],
    "prune": [
        (PRUNE.format(output="output: None = None"), "bytes"),
        (PRUNE.format(output="output: _Path"), "Report"),
    ],
    "calibrate": [
        (
            "model: _Model | None = None, data: _Data = None, *, output: _Path,"
            " merge: Sequence[_Path] | None = None, progress: _Progress = False",
            "None",
        )
    ],
    "worker": [("folder: _Path, *, progress: _Progress = False", "None")],
}

TYPES = {
    "int": "int",
    "float": "float",
    "float or str": "float | str",
    "int or str": "int | str",
    "path": "_Path",
    "str": "str",
    "dict or str": "Mapping[str, float | str] | str",
    "dict of int or str": "Mapping[str, int] | str",
    "dict of str or str": "Mapping[str, str] | str",
    "tuple or str": "tuple[int, int] | str",
}


def annotation(keyword):
    """The type of a keyword's value."""
    if keyword.value is None:
        return "bool"
    if keyword.choices:
        kind = f"Literal[{', '.join(repr(name) for name, _ in keyword.choices)}]"
    else:
        kind = TYPES[keyword.type.removesuffix(" or list")]
    if keyword.is_list:
        kind = f"{kind} | Sequence[{kind}]"
    return kind if keyword.default is not None or keyword.is_required else f"{kind} | None"


def parameters(command):
    """The keywords of a command, one a line."""
    rows = sorted(keywords(command).values(), key=lambda keyword: not keyword.is_required)
    for keyword in rows:
        default = "" if keyword.is_required else f" = {keyword.default!r}"
        yield f"{keyword.name}: {annotation(keyword)}{default}"


def stub():
    """The whole file."""
    parts = [HEAD]
    run = ",\n        ".join(
        ["self", "feeds: ArrayLike | Mapping[str, ArrayLike]", "*", *parameters("run")]
    )
    parts.append(f"    def run(\n        {run},\n    ) -> dict[str, np.ndarray]: ...\n")
    parts.append(PLAIN)
    for name, forms in FUNCTIONS.items():
        for fixed, result in forms:
            lines = ",\n    ".join([*fixed.split(", "), *parameters(name)])
            head = "@overload\n" if len(forms) > 1 else ""
            parts.append(f"{head}def {name}(\n    {lines},\n) -> {result}: ...\n")
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(STUB.read_text(encoding="utf-8") != stub() and "run stubs.py: the options have changed")
    STUB.write_text(stub(), encoding="utf-8")
