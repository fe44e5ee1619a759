"""Arrays of samples, one per input, as the library takes them."""

import warnings
from collections.abc import Mapping, Sequence
from numbers import Number

import numpy as np

from .errors import DataError

# Types that the library does not take, and the smallest types that hold all their values.
_NEAREST = {
    "int16": np.int32,
    "uint16": np.int32,
    "uint32": np.int64,
    "uint64": np.int64,
    "float128": np.float64,
}

# How the names of small floats of ml_dtypes begin; numpy itself does not know these.
_SMALL_FLOATS = ("bfloat16", "float8", "float6", "float4")


# The same of torch.
_TORCH_FLOATS = tuple(f"torch.{name}" for name in _SMALL_FLOATS)


def is_array(one):
    """Whether numpy reads it as an array."""
    return hasattr(one, "__array__") or hasattr(one, "__array_interface__")


def is_column(one):
    """Whether it is one array, or nested lists of numbers or words."""
    if is_array(one):
        return True
    while isinstance(one, list) and one:
        one = one[0]
        if isinstance(one, (Number, str, np.generic)):
            return True
    return False


def columns(given, wanted=None):
    """Names, if there are some, and arrays of a dict, a tuple or list of arrays, or an array.

    Entries of a dict that cannot be used are left out with a warning, unless they are ``wanted``.
    """
    if isinstance(given, Mapping):
        if wanted is not None:
            return wanted, [values(f"'{name}'", given.get(name)) for name in wanted]
        read = {str(name): _usable(str(name), one) for name, one in given.items()}
        kept = {name: one for name, (one, _) in read.items() if one is not None}
        reasons = [why for _, why in read.values() if why]
        if not kept:
            raise DataError("; ".join(reasons) or "the data has no arrays")
        for why in reasons:
            warnings.warn(f"{why}, so it is left out", UserWarning, stacklevel=2)
        return list(kept), list(kept.values())
    if isinstance(given, (tuple, list)):
        return None, [values(f"array {at}", one) for at, one in enumerate(given, 1)]
    return None, [values("the data", given)]


def _usable(name, given):
    """An array that can be used, or why there is none."""
    try:
        return values(f"'{name}'", given), None
    except DataError as error:
        return None, str(error)


def values(name, given):
    """One column as an array; raises a ``DataError`` that says what ``name`` holds instead."""
    if not (is_array(given) or isinstance(given, (Sequence, Number))) or isinstance(given, bytes):
        kind = "missing" if given is None else f"of type {type(given).__name__}, which is no array"
        raise DataError(f"{name} is {kind}")
    try:
        found = array(given)
        if found.dtype.kind == "O":
            found = _of_objects(name, found)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} holds samples of different sizes: bring them to one size") from error
    if found.dtype.kind not in "biufU":
        raise DataError(f"{name} is an array of {found.dtype}, which cannot feed a model")
    return found


def _of_objects(name, objects):
    """The array of what an array of objects holds; a ``ValueError`` where samples differ in size."""
    ones = objects.ravel()
    if any(one is None for one in ones):
        raise DataError(f"{name} has samples without a value")
    if any(isinstance(one, str) for one in ones):
        if not all(isinstance(one, str) for one in ones):
            raise DataError(f"{name} mixes words and numbers")
        return objects.astype(str)
    parts = [array(one) for one in ones]
    found = np.stack(parts) if parts else np.zeros(0)
    if found.dtype.kind == "O":
        kind = type(ones[0]).__name__
        raise DataError(f"{name} holds objects of type {kind}, which cannot feed a model")
    return found.reshape(objects.shape + found.shape[1:])


def array(given):
    """The elements in an array that the library takes; copied only if necessary."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        # numpy has no type for these.
        given = given.float() if str(given.dtype).startswith(_TORCH_FLOATS) else given
    found = np.asarray(given)
    if found.dtype.name.startswith(_SMALL_FLOATS):
        return found.astype(np.float32)
    nearest = _NEAREST.get(found.dtype.name)
    if nearest is not None:
        return found.astype(nearest)
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))
