"""Types of onnx_zip, written by stubs.py from the table of options."""

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
    def run(
        self,
        feeds: ArrayLike | Mapping[str, ArrayLike],
        *,
        runtime: Literal['auto', 'ort', 'tract'] = 'auto',
        device: str = 'auto',
        runtime_library: _Path | None = None,
        batch: int = 128,
        threads: int | None = None,
    ) -> dict[str, np.ndarray]: ...

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
@overload
def merge(
    models: _Models | None = None,
    data: _Data = None,
    *,
    plan: _Path | None = None,
    allow_changed: bool = False,
    save_plan: _Path | None = None,
    keep_rejected: _Path | None = None,
    dry_run: Literal[False] = False,
    statistics: RayStatistics | None = None,
    progress: _Progress = False,
    batchnorm: Literal['fold', 'per-task'] = 'fold',
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    gram: _Path | Sequence[_Path] | None = None,
    shards: int | None = None,
    workers: _Path | None = None,
    share: float | str | None = None,
    unit: Literal['layer', 'neuron', 'mixed'] | None = None,
    biases: Literal['per-task', 'shared'] | None = None,
    keep_shared: Mapping[str, float | str] | str | Sequence[Mapping[str, float | str] | str] | None = None,
    max_cost: float | None = None,
    until: str | None = None,
    own_weights: str | Sequence[str] | None = None,
    share_outputs: bool = False,
    correspondence: Literal['auto', 'index', 'search'] = 'auto',
    corrections: Literal['scale', 'low-rank'] | None = None,
    delta: Literal['int8', 'int4'] | None = None,
    round: int = 1,
    target_size: float | str | None = None,
    max_drop: float | None = None,
    method: Literal['refit', 'mtz'] = 'refit',
    passes: Literal['per-layer', 'one'] = 'per-layer',
    matcher: Literal['optimal', 'greedy', 'random'] | None = None,
    metric: Literal['hessian', 'weight', 'activation'] = 'hessian',
    alpha: float | Sequence[float] | None = None,
    damping: float = 0.0001,
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
    retrain: Literal['none', 'per-layer', 'end'] = 'none',
    iterations: int = 1000,
    original_iterations: int | None = None,
    reset_bn: bool = False,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
    form: Literal['heads', 'masked', 'switch'] = 'heads',
    inputs: Literal['auto', 'shared', 'separate'] = 'auto',
    no_recipe: bool = False,
    no_verify: bool = False,
    no_compare: bool = False,
    require: Literal['smaller', 'faster'] | Sequence[Literal['smaller', 'faster']] | None = None,
) -> Joint: ...
@overload
def merge(
    models: _Models | None = None,
    data: _Data = None,
    *,
    plan: _Path | None = None,
    allow_changed: bool = False,
    save_plan: _Path | None = None,
    keep_rejected: _Path | None = None,
    dry_run: Literal[True],
    statistics: RayStatistics | None = None,
    progress: _Progress = False,
    batchnorm: Literal['fold', 'per-task'] = 'fold',
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    gram: _Path | Sequence[_Path] | None = None,
    shards: int | None = None,
    workers: _Path | None = None,
    share: float | str | None = None,
    unit: Literal['layer', 'neuron', 'mixed'] | None = None,
    biases: Literal['per-task', 'shared'] | None = None,
    keep_shared: Mapping[str, float | str] | str | Sequence[Mapping[str, float | str] | str] | None = None,
    max_cost: float | None = None,
    until: str | None = None,
    own_weights: str | Sequence[str] | None = None,
    share_outputs: bool = False,
    correspondence: Literal['auto', 'index', 'search'] = 'auto',
    corrections: Literal['scale', 'low-rank'] | None = None,
    delta: Literal['int8', 'int4'] | None = None,
    round: int = 1,
    target_size: float | str | None = None,
    max_drop: float | None = None,
    method: Literal['refit', 'mtz'] = 'refit',
    passes: Literal['per-layer', 'one'] = 'per-layer',
    matcher: Literal['optimal', 'greedy', 'random'] | None = None,
    metric: Literal['hessian', 'weight', 'activation'] = 'hessian',
    alpha: float | Sequence[float] | None = None,
    damping: float = 0.0001,
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
    retrain: Literal['none', 'per-layer', 'end'] = 'none',
    iterations: int = 1000,
    original_iterations: int | None = None,
    reset_bn: bool = False,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
    form: Literal['heads', 'masked', 'switch'] = 'heads',
    inputs: Literal['auto', 'shared', 'separate'] = 'auto',
    no_recipe: bool = False,
    no_verify: bool = False,
    no_compare: bool = False,
    require: Literal['smaller', 'faster'] | Sequence[Literal['smaller', 'faster']] | None = None,
) -> Report: ...
def plan(
    models: _Models,
    *,
    batchnorm: Literal['fold', 'per-task'] = 'fold',
    share: float | str | None = None,
    unit: Literal['layer', 'neuron', 'mixed'] | None = None,
    biases: Literal['per-task', 'shared'] | None = None,
    keep_shared: Mapping[str, float | str] | str | Sequence[Mapping[str, float | str] | str] | None = None,
    max_cost: float | None = None,
    until: str | None = None,
    own_weights: str | Sequence[str] | None = None,
    share_outputs: bool = False,
    correspondence: Literal['auto', 'index', 'search'] = 'auto',
    corrections: Literal['scale', 'low-rank'] | None = None,
    delta: Literal['int8', 'int4'] | None = None,
    round: int = 1,
    method: Literal['refit', 'mtz'] = 'refit',
    passes: Literal['per-layer', 'one'] = 'per-layer',
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
) -> Report: ...
def frontier(
    models: _Models,
    data: _Data = None,
    *,
    statistics: RayStatistics | None = None,
    plans: _Path | None = None,
    keep: _Path | None = None,
    progress: _Progress = False,
    batchnorm: Literal['fold', 'per-task'] = 'fold',
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    gram: _Path | Sequence[_Path] | None = None,
    shards: int | None = None,
    workers: _Path | None = None,
    share: float | str | None = None,
    unit: Literal['layer', 'neuron', 'mixed'] | None = None,
    biases: Literal['per-task', 'shared'] | None = None,
    keep_shared: Mapping[str, float | str] | str | Sequence[Mapping[str, float | str] | str] | None = None,
    max_cost: float | None = None,
    until: str | None = None,
    own_weights: str | Sequence[str] | None = None,
    share_outputs: bool = False,
    correspondence: Literal['auto', 'index', 'search'] = 'auto',
    corrections: Literal['scale', 'low-rank'] | None = None,
    delta: Literal['int8', 'int4'] | None = None,
    round: int = 1,
    method: Literal['refit', 'mtz'] = 'refit',
    passes: Literal['per-layer', 'one'] = 'per-layer',
    matcher: Literal['optimal', 'greedy', 'random'] | None = None,
    metric: Literal['hessian', 'weight', 'activation'] = 'hessian',
    alpha: float | Sequence[float] | None = None,
    damping: float = 0.0001,
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
    retrain: Literal['none', 'per-layer', 'end'] = 'none',
    iterations: int = 1000,
    original_iterations: int | None = None,
    reset_bn: bool = False,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
    form: Literal['heads', 'masked', 'switch'] = 'heads',
    inputs: Literal['auto', 'shared', 'separate'] = 'auto',
    no_recipe: bool = False,
    points: int = 10,
    measure: int | None = None,
    latency: bool = False,
) -> Frontier: ...
def verify(
    joint: Joint | _Path,
    models: _Models,
    data: _Data = None,
    *,
    progress: _Progress = False,
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    max_deviation: float | None = None,
    max_drop: float | None = None,
    tolerance: float = 0.001,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
    seed: int = 0,
) -> Verification: ...
@overload
def retrain(
    joint: Joint | _Path,
    teachers: _Models = (),
    data: _Data = None,
    *,
    export: None = None,
    keep_rejected: _Path | None = None,
    progress: _Progress = False,
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    iterations: int = 1000,
    loss: Literal['distillation', 'divergence', 'scores', 'mse', 'cross-entropy'] | None = None,
    temperature: float = 2,
    layers: float = 0,
    weights: float | Sequence[float] | None = None,
    optimizer: Literal['sgd', 'adam', 'adamw'] = 'adam',
    learning_rate: float | None = None,
    relative_rate: float | None = None,
    weight_decay: float = 0.01,
    validation: float | str = 0.1,
    patience: int | None = None,
    mix: bool = False,
    reset_bn: bool = False,
    seed: int = 0,
    checkpoint: _Path | None = None,
    resume: bool = False,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
    no_verify: bool = False,
) -> Joint: ...
@overload
def retrain(
    joint: Joint | _Path,
    teachers: _Models = (),
    data: _Data = None,
    *,
    export: _Path,
    keep_rejected: _Path | None = None,
    progress: _Progress = False,
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    iterations: int = 1000,
    loss: Literal['distillation', 'divergence', 'scores', 'mse', 'cross-entropy'] | None = None,
    temperature: float = 2,
    layers: float = 0,
    weights: float | Sequence[float] | None = None,
    optimizer: Literal['sgd', 'adam', 'adamw'] = 'adam',
    learning_rate: float | None = None,
    relative_rate: float | None = None,
    weight_decay: float = 0.01,
    validation: float | str = 0.1,
    patience: int | None = None,
    mix: bool = False,
    reset_bn: bool = False,
    seed: int = 0,
    checkpoint: _Path | None = None,
    resume: bool = False,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
    no_verify: bool = False,
) -> None: ...
@overload
def prune(
    model: _Model,
    data: _Data = None,
    *,
    output: None = None,
    progress: _Progress = False,
    sparsity: float | str,
    method: Literal['l-obs', 'magnitude'] = 'l-obs',
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int = 10000,
    damping: float = 0.0001,
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
) -> bytes: ...
@overload
def prune(
    model: _Model,
    data: _Data = None,
    *,
    output: _Path,
    progress: _Progress = False,
    sparsity: float | str,
    method: Literal['l-obs', 'magnitude'] = 'l-obs',
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int = 10000,
    damping: float = 0.0001,
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
) -> Report: ...
def calibrate(
    model: _Model | None = None,
    data: _Data = None,
    *,
    output: _Path,
    merge: Sequence[_Path] | None = None,
    progress: _Progress = False,
    batchnorm: Literal['fold', 'per-task'] = 'fold',
    preprocess: _Path | Sequence[_Path] | None = None,
    column: Mapping[str, str] | str | Sequence[Mapping[str, str] | str] | None = None,
    scale: float | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: tuple[int, int] | str | None = None,
    layout: Literal['nchw', 'nhwc'] | None = None,
    part: str | None = None,
    dim: Mapping[str, int] | str | Sequence[Mapping[str, int] | str] | None = None,
    samples: int | None = None,
    max_rows: int = 262144,
    memory: int | str | None = None,
    seed: int = 0,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    batch: int = 128,
    threads: int | None = None,
) -> None: ...
def worker(
    folder: _Path,
    *,
    progress: _Progress = False,
    patience: int = 30,
    runtime: Literal['auto', 'ort', 'tract'] = 'auto',
    device: str = 'auto',
    runtime_library: _Path | None = None,
    threads: int | None = None,
) -> None: ...
