"""Models and samples in all forms that functions take."""

import os
from collections.abc import Iterable, Mapping

import numpy as np

from . import _native
from .errors import DataError, UsageError

# Types that the library does not take, and the smallest types that hold all their values.
_NEAREST = {
    "int16": np.int32,
    "uint16": np.int32,
    "uint32": np.int64,
    "uint64": np.int64,
    "float128": np.float64,
}


# Samples per batch read from a data set.
_BATCH = 256


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


def data(given, names):
    """Samples for all models, or one set per model."""
    if given is None:
        return []
    if isinstance(given, Mapping) and names and set(given) == set(names):
        return [_samples(given[name]) for name in names]
    if isinstance(given, Mapping) and names and set(given) & set(names):
        missing = ", ".join(name for name in names if name not in given)
        if missing:
            raise UsageError(f"there is no data for {missing}")
    if isinstance(given, list) and given and not _are_batches(given):
        return [_samples(one) for one in given]
    return [_samples(given)]


def _are_batches(given):
    """Whether a list holds batches of one data set, not one data set per model."""
    return not any(_is_source(one) for one in given)


def _is_source(one):
    is_path = isinstance(one, (str, os.PathLike))
    return is_path or _is_array(one) or isinstance(one, (Mapping, _native.Data)) or _is_loader(one)


def _is_loader(one):
    return isinstance(one, Iterable) and not isinstance(one, (tuple, list))


def _is_array(one):
    return hasattr(one, "__array__") or hasattr(one, "__array_interface__")


def _samples(given):
    if isinstance(given, _native.Data):
        return given
    if isinstance(given, (str, os.PathLike)):
        return _native.Data.path(os.fspath(given))
    if _is_array(given) or _is_arrays(given):
        names, arrays = _arrays(given)
        return _native.Data.arrays(names, arrays)
    if hasattr(given, "with_format") and hasattr(given, "iter"):
        # A data set of Hugging Face yields single samples; its own method cuts batches.
        return _spooled(given.with_format("numpy").iter(batch_size=_BATCH))
    if isinstance(given, Iterable):
        return _spooled(given)
    raise TypeError(
        "samples are a path, an array, a dict or tuple of arrays, or an iterable of batches,"
        f" not {type(given).__name__}"
    )


def _is_arrays(given):
    values = given.values() if isinstance(given, Mapping) else given
    return isinstance(given, (Mapping, tuple)) and all(_is_array(value) for value in values)


def _arrays(given):
    """Names, if there are some, and arrays."""
    if isinstance(given, Mapping):
        found = {str(name): array(value) for name, value in given.items()}
        # Texts and paths are not inputs of a model.
        numbers = {name: a for name, a in found.items() if a.dtype.kind not in "OSU"}
        return list(numbers), list(numbers.values())
    if isinstance(given, (tuple, list)):
        return None, [array(value) for value in given]
    return None, [array(given)]


def array(given):
    """The elements in an array that the library takes; copied only if necessary."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    found = np.asarray(given)
    nearest = _NEAREST.get(found.dtype.name)
    if nearest is not None:
        return found.astype(nearest)
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))


def _spooled(batches):
    spooler = _native.Spooler()
    for number, batch in enumerate(batches, 1):
        try:
            names, arrays = _arrays(batch)
        except (TypeError, ValueError) as error:
            raise DataError(f"batch {number} holds no arrays ({error})") from error
        spooler.push(names, arrays)
    return spooler.finish()
