"""Merge several pre-trained ONNX networks into one smaller multi-task model.

``merge`` makes a :class:`Joint` model, ``plan`` tells what it would do, ``frontier`` measures what joint
models of several sizes cost, ``inspect`` shows one model, ``fix`` sets inputs of one to constants,
``verify`` compares a joint model with its originals, ``retrain`` trains one a little more or exports it for
training elsewhere, ``import_weights`` takes weights from there, ``strip`` writes a copy for a device,
``prune`` leaves out weights, ``calibrate`` stores statistics, and ``worker`` computes them for a merge on
another machine. Keywords are the options of the command line, with the same defaults.
"""

import os
from numbers import Integral

from . import _inputs, _native
from ._joint import Joint, temporary
from ._keywords import arguments, documented
from ._place import find_onnxruntime, program, written
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
    "import_weights",
    "inspect",
    "merge",
    "plan",
    "prune",
    "retrain",
    "strip",
    "verify",
    "worker",
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
    keep_rejected=None,
    dry_run=False,
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
    keep_rejected : str or os.PathLike, optional
        Where to keep a joint model that fails its verification.
    dry_run : bool, default: False
        Shows the plan and stops, like :func:`plan`. Reads no samples.
    statistics : onnx_zip.distributed.RayStatistics, optional
        Takes statistics on a cluster in place of this process.
    progress : bool or callable, default: False
        Shows bars, by tqdm, or calls ``progress(stage, done, steps)``.
    **options
        OPTIONS

    Returns
    -------
    Joint or Report
        The joint model, with the report of the merge; with ``dry_run`` the plan.

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
    plans = (_path(plan), bool(allow_changed), _path(save_plan))
    if dry_run:
        told, text = _native.dry_run((found, names, []), given, plans)
        return Report(text, told)
    sets = _inputs.data(data, names, len(found), _drawn(options))
    heard = listener(progress)
    try:
        native = _native.merge(
            (found, names, sets),
            given,
            plans,
            (program(), _crew(statistics)),
            _path(keep_rejected),
            heard,
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
def retrain(
    joint,
    teachers=(),
    data=None,
    *,
    export=None,
    keep_rejected=None,
    progress=False,
    **options,
):
    """Retrain a joint model towards its original models or labels.

    Trains all parameters at once, towards the scores of the original models (``teachers``, no labels needed)
    or towards labels. Shared weights learn from every task. Gradients and optimiser are part of the graph.
    Keeps the weights with the best validation.

    Parameters
    ----------
    joint : Joint, str or os.PathLike
        The joint model, in any form.
    teachers : dict or list, optional
        The original models to learn from, in the order of the tasks or by their names; without them the
        model learns from labels.
    data : optional
        As for :func:`merge`; retraining needs some.
    export : str or os.PathLike, optional
        Instead writes a folder with scripts for ONNX Runtime training; it must be new or empty, and
        :func:`import_weights` reads the trained weights.
    keep_rejected : str or os.PathLike, optional
        Where to keep a joint model that fails its verification.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS

    Returns
    -------
    Joint or None
        The retrained model, with the report of its training; nothing with ``export``.
    """
    found, names = _inputs.models(_in_order(teachers, joint))
    tasks = _tasks(joint)
    drawn = _drawn(options, None if export is None else _DRAWN)
    sets = _inputs.data(data, names or tasks, len(tasks), drawn)
    given = (os.fspath(joint), found, sets, arguments("retrain", options))
    heard = listener(progress)
    try:
        if export is not None:
            return _native.export(*given, os.fspath(export), heard)
        native, told, text = _native.retrain(*given, _path(keep_rejected), heard)
    finally:
        heard.close()
    return Joint._of(native, Report(text, told))


def import_weights(folder, *, progress=False):
    """Import weights trained by ONNX Runtime training into their joint model.

    The result has the form, inputs and metadata of the exported joint model.

    Parameters
    ----------
    folder : str or os.PathLike
        A folder of ``retrain(..., export=folder)``, after train.py has run there.
    progress : bool or callable, default: False
        As for :func:`merge`.

    Returns
    -------
    Joint
        The joint model with the trained weights.
    """
    heard = listener(progress)
    try:
        return temporary(lambda path: _native.import_weights(os.fspath(folder), str(path), heard))
    finally:
        heard.close()


def strip(joint, *, output=None, progress=False):
    """Write a copy of a joint model without data that a run does not need.

    Removes the metadata that ``extract``, ``split``, ``retrain`` and ``merge`` need to recover the task nets.
    Replaces names of inner values and nodes by numbers. Inputs, outputs, weights and results stay the same.
    Keep the original: task nets cannot be recovered from a stripped copy.

    Parameters
    ----------
    joint : Joint, str, os.PathLike, bytes or onnx.ModelProto
        The joint model.
    output : str or os.PathLike, optional
        Where to write the copy.
    progress : bool or callable, default: False
        As for :func:`merge`.

    Returns
    -------
    None or bytes
        The serialised copy if there is no ``output``.
    """
    heard = listener(progress)
    try:
        given = _inputs.model(joint)
        return written(output, lambda path: _native.strip(given, path, heard))
    finally:
        heard.close()


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
    try:
        found = [(str(name), _inputs.value(value)) for name, value in inputs.items()]
        given = _inputs.model(model)
        return written(output, lambda path: _native.fix(given, found, path, heard))
    finally:
        heard.close()


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
    try:
        given = (
            _inputs.model(model),
            _inputs.data(data, [], 1, _drawn(options)),
            arguments("prune", options),
        )

        def write(path):
            told, text = _native.prune(*given, path, heard)
            return Report(text, told)

        return written(output, write)
    finally:
        heard.close()


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


@documented("worker")
def worker(folder, *, progress=False, **options):
    """Compute statistics of samples for a merge on another machine.

    The merge (``merge(..., shards=N, workers=folder)``) and its workers share one folder. Workers may start
    before the merge, join later or stop early; they end with the merge. Other workers take over the shards
    of a stopped one.

    Parameters
    ----------
    folder : str or os.PathLike
        The folder that the merge names with ``workers``.
    progress : bool or callable, default: False
        As for :func:`merge`.
    **options
        OPTIONS
    """
    heard = listener(progress)
    try:
        _native.worker(os.fspath(folder), arguments("worker", options), heard)
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
