"""Iterables of batches or samples, read once into a temporary file."""

import random
import warnings
from collections.abc import Iterable, Mapping
from itertools import chain, islice

import numpy as np

from . import _native
from ._columns import array, columns
from .errors import DataError

# Samples per batch read from a data set, or put together from single samples.
_BATCH = 256

# Samples that are read of data without end if the work uses all.
_MOST = 100_000


class Batches:
    """Batches or single samples, and how many there are, where that is known."""

    def __init__(self, items, total=None):
        self.items = items
        self.total = total


def batches_of(given):
    """A function that gives batches, or single samples, for the number of samples that can be used.

    ``None`` for what cannot be iterated.
    """
    if hasattr(given, "with_format") and hasattr(given, "iter"):
        # A data set of Hugging Face yields single samples; its own method cuts batches.
        return lambda most: _of_hub(given, most)
    if isinstance(given, Iterable):
        return lambda most: Batches(given, _length(given))
    if hasattr(given, "__getitem__") and _length(given) is not None:
        # A data set of torch has samples by number.
        return lambda most: Batches((given[i] for i in _drawn(len(given), most)), len(given))
    return None


def _of_hub(given, most):
    total = _length(given)
    if total is not None and total > most:
        given = given.select(_drawn(total, most))
    return Batches(given.with_format("numpy").iter(batch_size=_BATCH), total)


def _drawn(total, most):
    """Numbers of samples, in order: all, or as many as can be used."""
    return range(total) if total <= most else sorted(random.Random(0).sample(range(total), most))


def _length(given):
    try:
        return len(given)
    except (TypeError, NotImplementedError):
        return None


def spooled(batches, drawn):
    """Reads batches into a temporary file. Work that uses ``drawn`` samples measures on as many others."""
    most = _MOST if drawn is None else 2 * drawn
    batches = batches(most)
    spooler, names, read = _native.Spooler(), None, 0
    for number, batch in enumerate(_whole(iter(batches.items)), 1):
        # Data of a known length ends.
        if batches.total is None and read >= most:
            warnings.warn(
                f"the data was read up to its sample {read} only, since it does not tell its length:"
                " give samples= for more, or a data set with a length",
                UserWarning,
                stacklevel=2,
            )
            break
        try:
            names, arrays = columns(batch, names)
            if any(one.ndim == 0 for one in arrays):
                raise DataError("a single value is no batch: its first axis would count samples")
        except DataError as error:
            raise DataError(f"batch {number}: {error}") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"batch {number} holds no arrays ({error})") from error
        spooler.push(names, arrays)
        read += len(arrays[0]) if arrays else 0
    return spooler.finish()


def _whole(items):
    """Batches, also of items that are single samples."""
    first = next(items, None)
    if first is None:
        return
    items = chain([first], items)
    if not _is_sample(first):
        yield from items
        return
    while samples := list(islice(items, _BATCH)):
        yield _stacked(samples)


def _is_sample(item):
    """Whether an item is one sample: a part of it, such as its label, has no axis of samples."""
    if isinstance(item, Mapping):
        item = tuple(item.values())
    return isinstance(item, (tuple, list)) and any(map(_is_scalar, item))


def _is_scalar(one):
    return isinstance(one, str) or not isinstance(one, (list, tuple, Mapping)) and np.ndim(one) == 0


def _stacked(samples):
    """A batch of samples: lists of what each has in one place."""
    first = samples[0]
    if isinstance(first, Mapping):
        return {name: _list(sample[name] for sample in samples) for name in first}
    return tuple(_list(part) for part in zip(*samples))


def _list(parts):
    """Parts of samples in an array of objects, which becomes one of numbers if they have one shape."""
    parts = [array(part) for part in parts]
    if len({part.shape for part in parts}) == 1:
        return np.stack(parts)
    found = np.empty(len(parts), object)
    found[:] = parts
    return found
