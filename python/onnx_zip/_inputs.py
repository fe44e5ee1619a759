"""Models and samples in all forms that functions take."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from . import _native
from ._columns import array, columns, is_array, is_column, values
from ._spooled import batches_of, spooled
from .errors import DataError, UsageError

__all__ = ["array", "data", "model", "models", "value"]


def model(given):
    """The path or the bytes of a model."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, (bytearray, memoryview)):
        return bytes(given)
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given)
    serialise = getattr(given, "SerializeToString", None)
    if serialise is not None:
        return serialise()
    raise TypeError(
        f"a model is a path, bytes or an onnx.ModelProto, not {type(given).__name__}"
    )


def value(given):
    """The text of the value of an input."""
    words = np.asarray(given).ravel().tolist()
    return ",".join(str(word).lower() if isinstance(word, bool) else str(word) for word in words)


def models(given):
    """Models, and their names where they have some."""
    if isinstance(given, Mapping):
        return [model(m) for m in given.values()], [str(name) for name in given]
    if isinstance(given, (str, bytes, os.PathLike)):
        raise TypeError("several models are needed: give a list, or a dict of names and models")
    return [model(m) for m in given], []


def data(given, names, count, drawn=None):
    """Samples for all models, or one set per model.

    ``names`` are those of the models, if they have some, and ``count`` is their number. ``drawn`` is the
    number of samples that the work uses; ``None`` for all.
    """
    if given is None:
        return []
    if isinstance(given, Mapping) and names and set(given) == set(names):
        return [_samples(given[name], drawn) for name in names]
    if isinstance(given, Mapping) and names and set(given) & set(names):
        missing = ", ".join(name for name in names if name not in given)
        if missing:
            raise UsageError(f"there is no data for {missing}")
    if isinstance(given, (list, tuple)) and given and _is_per_model(given, count):
        return [_samples(one, drawn) for one in given]
    return [_samples(given, drawn)]


def _is_per_model(given, count):
    """Whether a list or tuple holds one set per model, not batches or columns of one set."""
    if all(isinstance(one, tuple) for one in given):
        return len(given) == count
    return isinstance(given, list) and any(_is_source(one) for one in given)


def _is_source(one):
    is_path = isinstance(one, (str, os.PathLike))
    return is_path or is_array(one) or isinstance(one, (Mapping, _native.Data)) or _is_loader(one)


def _is_loader(one):
    """Whether it yields batches or samples, and is no batch itself."""
    is_plain = isinstance(one, (Sequence, Mapping)) or is_array(one)
    return not is_plain and batches_of(one) is not None


def _samples(given, drawn):
    if isinstance(given, _native.Data):
        return given
    if isinstance(given, (str, os.PathLike)):
        return _native.Data.path(os.fspath(given))
    if isinstance(given, Mapping):
        _refuse_sets(given)
        return _native.Data.arrays(*columns(given))
    if is_array(given) or isinstance(given, tuple) and all(map(is_column, given)):
        return _native.Data.arrays(*columns(given))
    if isinstance(given, list) and given and is_column(given):
        return _native.Data.arrays(None, [values("data", given)])
    batches = None if isinstance(given, (bytes, bytearray, set, frozenset)) else batches_of(given)
    if batches is None:
        raise TypeError(
            "samples are a path, an array, a dict or tuple of arrays, or an iterable of batches,"
            f" not {type(given).__name__}"
        )
    return spooled(batches, drawn)


def _refuse_sets(given):
    """Refuses a dict of data sets or paths whose keys are no tasks."""
    kinds = (str, os.PathLike, _native.Data, Mapping)
    sets = [str(n) for n, one in given.items() if isinstance(one, kinds) or _is_loader(one)]
    if not sets:
        return
    first = f"data[{sets[0]!r}]"
    if len(sets) < len(given):
        raise DataError(f"{first} is no array: every entry of a dict of samples is one array")
    raise UsageError(
        f"the data has entries {', '.join(sets)}, which are no names of the models: choose one"
        f" such as {first}, or name the models alike"
    )
