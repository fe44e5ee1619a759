"""Merge several pre-trained ONNX networks into one smaller multi-task model.

``merge`` makes a :class:`Joint` model, ``plan`` tells what it would do, ``frontier`` measures what joint
models of several sizes cost, ``inspect`` shows one model, ``fix`` sets inputs of one to constants,
``verify`` compares a joint model with its originals, ``retrain`` trains one a little more, ``prune``
leaves out weights, and ``calibrate`` stores statistics. Keywords are the options of the command line,
with the same defaults.
"""

import os
import tempfile
from numbers import Integral
from pathlib import Path

from . import _inputs, _native
from ._joint import Joint
from ._keywords import arguments, documented
from ._place import find_onnxruntime, program
from ._progress import listener
from ._report import Frontier, Report, Verification
from .errors import Error, RequirementError, UsageError

__version__ = _native.__version__

__all__ = [
    "Error",
    "Frontier",
    "Joint",
    "Report",
    "Verification",
    "calibrate",
    "errors",
    "fix",
    "frontier",
    "inspect",
    "merge",
    "plan",
    "prune",
    "retrain",
    "verify",
]

# Samples that a merge draws where ``samples`` is not given.
_DRAWN = 10_000

find_onnxruntime()


@documented("merge")
def merge(
    models=None,
    data=None,
    *,
    plan=None,
    allow_changed=False,
    save_plan=None,
    statistics=None,
    progress=False,
    **options,
):
    """Merge trained models into one smaller multi-task model.

    Neurons or layers that do nearly the same are stored once, with weights that serve all tasks, and
    layers behind them make up for the change. Inputs that show what the models see (``data``, no labels
    needed) decide what "nearly the same" means. Outputs of the joint model are called ``TASK/OUTPUT``.
    The joint model is verified against the originals.

    Parameters
    ----------
    models : dict or list
        The models: paths, bytes or ``onnx.ModelProto``. The keys of a dict name the tasks; models in a
        list are named after their files. A joint model counts for all its tasks. Optional with a
        ``plan``.
    data : optional
        Samples such as the models see: a path (``.npz``, ``.npy`` or a folder of images), an array whose
        first axis counts samples, a dict of arrays by the names of the inputs, a tuple of arrays in the
        inputs' order, or any iterable of batches or samples, such as a torch ``DataLoader``. An array
        called ``labels``, or one array more than there are inputs, holds labels: numbers or words. Give
        one set for all models, a dict of sets by the names of the tasks, or a list with one set per
        model. Arrays are not copied; iterables are read once, into a temporary file, and need not fit
        into memory. One that does not tell its length is read up to twice ``samples``.
    plan : str or os.PathLike, optional
        Repeats the merge of a plan; models, data and options given here replace those of the plan.
    allow_changed : bool, default: False
        Follows the plan even if models or samples differ from those it was made with.
    save_plan : str or os.PathLike, optional
        Where to write a plan of the merge: a TOML file for editing and repeating it. It holds only
        models and samples that are files.
    statistics : onnx_zip.distributed.RayStatistics, optional
        Takes statistics on a cluster in place of this process.
    progress : bool or callable, default: False
        Shows bars, by tqdm, or calls ``progress(stage, done, steps)``.
    **options
        OPTIONS

    Returns
    -------
    Joint
        The joint model, with the report of the merge.

    Raises
    ------
    onnx_zip.errors.Error
        With the sentence that the command line prints. ``RequirementError`` if the joint model does not
        meet ``require``; its attribute ``joint`` is the joint model.
    """
    if models is None and plan is None:
        raise TypeError("merge() needs models, or a plan")
    if allow_changed and plan is None:
        raise TypeError("merge() takes allow_changed beside a plan only")
    given = arguments("merge", options)
    found, names = _inputs.models([] if models is None else models)
    sets = _inputs.data(data, names, len(found), _drawn(options))
    plans = (_path(plan), bool(allow_changed), _path(save_plan))
    heard = listener(progress)
    try:
        native = _native.merge(
            (found, names), sets, given, plans, (program(), _crew(statistics)), heard
        )
    finally:
        heard.close()
        if statistics is not None:
            statistics.close()
    joint = Joint._of(native)
    unmet, worse = native.complaints()
    if unmet is not None:
        raise RequirementError(unmet if worse is None else f"{unmet}: {worse}", joint)
    if worse is not None:
        heard.warn(worse)
    return joint


def _path(given):
    return None if given is None else os.fspath(given)


def _crew(statistics):
    """The number of shards, and the object that computes their statistics."""
    return None if statistics is None else (statistics.num_shards, statistics)


@documented("plan")
def plan(models, **options):
    """Show what a merge would do; needs no data.

    Parameters
    ----------
    models : dict or list
        As for :func:`merge`.
    **options
        OPTIONS

    Returns
    -------
    Report
        Which layers correspond, what cannot be shared and why, sizes and memory.
    """
    found, names = _inputs.models(models)
    data, text = _native.plan(found, names, arguments("plan", options))
    return Report(text, data)


@documented("frontier")
def frontier(
    models, data=None, *, statistics=None, plans=None, keep=None, progress=False, **options
):
    """Measure what joint models of several sizes cost each task.

    Merges for several sizes, from full sharing on. Measures each task's error if samples have labels,
    else the part of samples that get another class than from the original, or the distance of outputs
    from the original's. Merges after the first reuse its statistics, so they take less time.

    Parameters
    ----------
    models : dict or list
        As for :func:`merge`.
    data : optional
        As for :func:`merge`.
    statistics : onnx_zip.distributed.RayStatistics, optional
        As for :func:`merge`.
    plans : str or os.PathLike, optional
        A folder for the plans of all points; ``onnx-zip merge --plan`` makes a joint model from one.
        Plans hold only models and samples that are files.
    keep : str or os.PathLike, optional
        A folder for the joint models of all points, and their plans.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS

    Returns
    -------
    Frontier
        The points with their sizes and losses, and the knee of the curve; notebooks draw it.
    """
    found, names = _inputs.models(models)
    sets = _inputs.data(data, names, len(found), _drawn(options))
    heard = listener(progress)
    try:
        (told, text), html, csv, markdown = _native.frontier(
            found,
            names,
            sets,
            arguments("frontier", options),
            (
                _crew(statistics),
                _path(plans),
                _path(keep),
            ),
            heard,
        )
    finally:
        heard.close()
        if statistics is not None:
            statistics.close()
    return Frontier(text, told, html, csv, markdown)


def inspect(model):
    """Show the layers of one model and which of its channels can be shared.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        The model.

    Returns
    -------
    Report
        Layers and channels of the simplified model that a merge works on.
    """
    data, text = _native.inspect(_inputs.model(model))
    return Report(text, data)


@documented("verify")
def verify(joint, models, data=None, *, progress=False, **options):
    """Compare a joint model with its originals, in ONNX Runtime and in tract.

    Parameters
    ----------
    joint : Joint, str or os.PathLike
        The joint model.
    models : dict or list
        Its original models, in the order of its tasks or by their names.
    data : optional
        As for :func:`merge`.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS

    Returns
    -------
    Verification
        True where nothing failed.
    """
    found, names = _inputs.models(_in_order(models, joint))
    heard = listener(progress)
    try:
        told, text = _native.verify(
            os.fspath(joint),
            found,
            _inputs.data(data, names, len(found), _drawn(options, None)),
            arguments("verify", options),
            heard,
        )
    finally:
        heard.close()
    return Verification(text, told)


@documented("retrain")
def retrain(joint, teachers=(), data=None, *, progress=False, **options):
    """Train a joint model a little more, towards the outputs of its original models.

    Parameters
    ----------
    joint : Joint, str or os.PathLike
        The joint model, in any form.
    teachers : dict or list, optional
        The original models to learn from, in the order of the tasks or by their names; without them the
        model learns from labels.
    data : optional
        As for :func:`merge`; retraining needs some.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS

    Returns
    -------
    Joint
        The retrained model, with the report of its training.
    """
    found, names = _inputs.models(_in_order(teachers, joint))
    tasks = _tasks(joint)
    heard = listener(progress)
    try:
        native, told, text = _native.retrain(
            os.fspath(joint),
            found,
            _inputs.data(data, names or tasks, len(tasks), _drawn(options, None)),
            arguments("retrain", options),
            heard,
        )
    finally:
        heard.close()
    return Joint._of(native, Report(text, told))


def fix(model, inputs, *, output=None, progress=False):
    """Set inputs of a model to constants, and keep the branches that these take.

    Layers inside branches that an input decides about, such as a sampling rate, cannot be shared. What is left
    of the model lacks these inputs and the other branches.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        The model.
    inputs : dict
        A value for each input that is set: a number or a flag for all its elements, or a list of them.
    output : str or os.PathLike, optional
        Where to write what is left.
    progress : bool or callable, default: False
        As for :func:`merge`.

    Returns
    -------
    None or bytes
        The serialised model if there is no ``output``.
    """
    heard = listener(progress)
    with tempfile.TemporaryDirectory(prefix="onnx-zip-") as folder:
        path = Path(folder) / "fixed.onnx" if output is None else Path(os.fspath(output))
        try:
            found = [(str(name), _inputs.value(value)) for name, value in inputs.items()]
            _native.fix(_inputs.model(model), found, os.fspath(path), heard)
        finally:
            heard.close()
        return path.read_bytes() if output is None else None


@documented("prune")
def prune(model, data=None, *, output=None, progress=False, **options):
    """Remove the weights that a model's layers need least.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        The model.
    data : optional
        As for :func:`merge`.
    output : str or os.PathLike, optional
        Where to write the pruned model.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS

    Returns
    -------
    Report or bytes
        The report of removed weights if there is an ``output``; else the serialised model.
    """
    heard = listener(progress)
    with tempfile.TemporaryDirectory(prefix="onnx-zip-") as folder:
        path = Path(folder) / "pruned.onnx" if output is None else Path(os.fspath(output))
        try:
            told, text = _native.prune(
                _inputs.model(model),
                _inputs.data(data, [], 1, _drawn(options)),
                arguments("prune", options),
                os.fspath(path),
                heard,
            )
        finally:
            heard.close()
        return Report(text, told) if output is not None else path.read_bytes()


@documented("calibrate")
def calibrate(model=None, data=None, *, output, merge=None, progress=False, **options):
    """Store the statistics of one model's layer inputs, or add up stored statistics.

    Statistics of several parts of the data add up to those of all of it. ``merge(..., gram=[...])`` takes
    them in place of data.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto, optional
        The model.
    data : optional
        As for :func:`merge`.
    output : str or os.PathLike
        Where to write the statistics.
    merge : list of str or os.PathLike, optional
        Files of statistics of one model to add up, in place of ``model`` and ``data``.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS
    """
    heard = listener(progress)
    try:
        if merge is not None:
            if model is not None or data is not None:
                raise TypeError("calibrate() takes a model and data, or files to add up")
            _native.add_statistics([os.fspath(p) for p in merge], os.fspath(output), heard)
            return
        if model is None or data is None:
            raise TypeError("calibrate() needs a model and data")
        _native.calibrate(
            _inputs.model(model),
            _inputs.data(data, [], 1, _drawn(options)),
            arguments("calibrate", options),
            os.fspath(output),
            heard,
        )
    finally:
        heard.close()


def _drawn(options, otherwise=_DRAWN):
    """The number of samples that work takes: as given, or else those of a model's statistics."""
    given = options.get("samples")
    return given if isinstance(given, Integral) else otherwise


def _tasks(joint):
    return (joint if isinstance(joint, Joint) else Joint(joint)).tasks


def _in_order(models, joint):
    """Models by the names of tasks, in the order of the joint model's tasks."""
    if not hasattr(models, "keys"):
        return models
    tasks = _tasks(joint)
    if set(models) != set(tasks):
        given, wanted = ", ".join(map(str, models)), ", ".join(tasks)
        raise UsageError(f"the models are called {given}, but the tasks are {wanted}")
    return {task: models[task] for task in tasks}
