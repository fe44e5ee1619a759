"""Samples in all forms: what is read of them, and what is said about the others."""

import itertools

import numpy as np
import pytest
from onnx_zip import _columns, _inputs, _native, errors

IMAGES = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
LABELS = np.array([1, 2, 3, 4, 5, 6])


class Data:
    """What the compiled half gets."""

    def __init__(self, names, arrays):
        self.names, self.arrays = names, arrays

    @staticmethod
    def path(path):
        return Data(path, [])

    @staticmethod
    def arrays(names, arrays):
        return Data(names, arrays)


class Spooler:
    """Keeps batches in memory."""

    def __init__(self):
        self.batches = []

    def push(self, names, batch):
        self.names = names
        self.batches.append(batch)

    def finish(self):
        return Data(self.names, [np.concatenate(parts) for parts in zip(*self.batches)])


@pytest.fixture(autouse=True)
def halves(monkeypatch):
    monkeypatch.setattr(_native, "Data", Data)
    monkeypatch.setattr(_native, "Spooler", Spooler)


def read(given, names=(), count=2, drawn=None):
    return _inputs.data(given, list(names), count, drawn)


class Numbered:
    """Samples by number, as data sets of torch have them."""

    def __len__(self):
        return 6

    def __getitem__(self, at):
        return IMAGES[at], int(LABELS[at])


@pytest.mark.parametrize(
    "given",
    [
        (IMAGES, LABELS),
        (IMAGES, LABELS.tolist()),
        (IMAGES.astype(object), LABELS),
        iter([(IMAGES[:4], LABELS[:4]), [IMAGES[4:], LABELS[4:]]]),
        zip(IMAGES, LABELS.tolist()),
        Numbered(),
        {"image": IMAGES.tolist(), "labels": LABELS.tolist()},
        ({"image": x, "labels": int(y)} for x, y in zip(IMAGES, LABELS)),
    ],
)
def test_forms_of_samples(given):
    (found,) = read(given)
    np.testing.assert_array_equal(found.arrays[0], IMAGES)
    np.testing.assert_array_equal(found.arrays[1], LABELS)


def test_a_list_of_as_many_tuples_as_models_holds_one_set_per_model():
    pairs = [(IMAGES, LABELS), (IMAGES[:3], LABELS[:3])]
    assert [len(one.arrays[1]) for one in read(pairs)] == [6, 3]
    assert [len(one.arrays[1]) for one in read(tuple(pairs))] == [6, 3]
    # Batches of data loaders are lists.
    assert [len(one.arrays[1]) for one in read([list(pair) for pair in pairs])] == [9]
    assert [len(one.arrays[1]) for one in read(pairs, count=3)] == [9]


def test_words_are_labels():
    words = np.array(["cat", "dog", "cat", "cat", "dog", "eel"])
    for given in ((IMAGES, words), {"image": IMAGES, "labels": words.astype(object)}):
        (found,) = read(given)
        assert found.arrays[1].dtype.kind == "U" and list(found.arrays[1]) == list(words)


def test_small_floats_of_ml_dtypes_become_floats():
    types = pytest.importorskip("ml_dtypes")
    assert _columns.array(IMAGES.astype(types.bfloat16)).dtype == np.float32


def test_what_is_left_out_is_said():
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((2, 3)), np.zeros((4, 3))]
    with pytest.warns(UserWarning, match="'boxes' holds samples of different sizes.* left out"):
        (found,) = read({"image": IMAGES[:2], "boxes": ragged})
    assert found.names == ["image"]
    with pytest.raises(errors.DataError, match="different sizes"):
        read({"image": ragged})
    with pytest.raises(errors.DataError, match="batch 2: 'image' holds samples of different sizes"):
        read(iter([{"image": IMAGES[:2]}, {"image": ragged}]))


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (b"abc", TypeError, "not bytes"),
        ({1, 2}, TypeError, "not set"),
        (5, TypeError, "not int"),
        (range(5), errors.DataError, "batch 1: a single value is no batch"),
        ({"image": "x.npz"}, errors.UsageError, "no names of the models"),
        ({"train": {"image": IMAGES}}, errors.UsageError, r"such as data\['train'\]"),
        ({"image": IMAGES, "labels": "y.npy"}, errors.DataError, r"data\['labels'\] is no array"),
        ({"image": None}, errors.DataError, "'image' is missing"),
        (IMAGES.astype(complex), errors.DataError, "complex128, which cannot feed a model"),
    ],
)
def test_what_holds_no_samples_is_named(given, kind, said):
    with pytest.raises(kind, match=said):
        read(given)


def test_data_without_end_is_read_as_far_as_it_is_used():
    with pytest.warns(UserWarning, match="up to its sample 12 only"):
        (found,) = read(((IMAGES, LABELS) for _ in itertools.count()), drawn=6)
    assert len(found.arrays[0]) == 12
    # Data that tells its length ends, and single samples are drawn.
    assert len(read([[IMAGES, LABELS]] * 3, drawn=6)[0].arrays[0]) == 18
    assert len(read(Numbered(), drawn=2)[0].arrays[0]) == 4
