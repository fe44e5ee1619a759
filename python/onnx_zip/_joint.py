"""The joint model."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from . import _inputs, _native
from ._keywords import arguments, documented
from ._progress import listener
from ._report import Report
from .errors import UsageError


class Joint:
    """A joint model: several models in one file.

    :func:`onnx_zip.merge` makes one in a temporary file, which is removed with the object; ``save``
    keeps it.

    Parameters
    ----------
    path : str or os.PathLike
        A joint model that was merged before.

    Attributes
    ----------
    report : Report or None
        The report of the merge or retraining; ``None`` for a model that was opened.
    """

    def __init__(self, path):
        self._keep(_native.NativeJoint.open(os.fspath(path)), None)

    @classmethod
    def _of(cls, native, report=None):
        joint = cls.__new__(cls)
        if report is None and native.report() is not None:
            report = Report(*native.report())
        joint._keep(native, report)
        return joint

    def _keep(self, native, report):
        self._native = native
        self.report = report

    @property
    def path(self):
        """pathlib.Path: The file that it is in."""
        return Path(self._native.path)

    @property
    def tasks(self):
        """list of str: Names of the tasks, in order."""
        return self._native.tasks()

    def save(self, path):
        """Writes the joint model to a file, whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike
            The file; an existing one is replaced.

        Returns
        -------
        int
            Bytes written.
        """
        return self._native.save(os.fspath(path), listener(False))

    def extract(self, task, path=None):
        """Takes one task out as a plain model, with the inputs and outputs of its original.

        Parameters
        ----------
        task : str
            Name of the task.
        path : str or os.PathLike, optional
            Where to write the model.

        Returns
        -------
        bytes or None
            The serialised model, where there is no ``path``.
        """
        if path is None:
            return self._native.extract_bytes(task, listener(False))
        self._native.extract(task, os.fspath(path), listener(False))
        return None

    def split(self, folder):
        """Writes one model per task, all of which read their weights from one common file.

        Parameters
        ----------
        folder : str or os.PathLike
            Folder to write into; it is made where it does not exist.
        """
        self._native.split(os.fspath(folder), listener(False))

    @documented("run")
    def run(self, feeds, **options):
        """Runs the joint model once.

        Parameters
        ----------
        feeds : dict or array
            One array per input, by its name; an array alone feeds the only input.
        **options
            OPTIONS

        Returns
        -------
        dict
            One array per output, called ``TASK/OUTPUT``.
        """
        if not hasattr(feeds, "items"):
            feeds = {self._only_input(): feeds}
        arrays = [(name, _inputs.array(array)) for name, array in feeds.items()]
        return self._native.run(arrays, arguments("run", options), listener(False))

    def _only_input(self):
        names = self._native.inputs()
        if len(names) != 1:
            raise UsageError(f"the model has {len(names)} inputs: give a dict of {', '.join(names)}")
        return names[0]

    def to_bytes(self):
        """The serialised joint model.

        Returns
        -------
        bytes
        """
        return self.path.read_bytes()

    def __reduce__(self):
        # The file may be temporary, so a copy has one of its own.
        return _restored, (self.to_bytes(), self.report)

    def __fspath__(self):
        return str(self.path)

    def __repr__(self):
        return f"<onnx_zip.Joint of {', '.join(self.tasks)}>"

    def _repr_html_(self):
        return None if self.report is None else self.report._repr_html_()


def _restored(content, report):
    """The joint model of these bytes."""
    return temporary(lambda path: path.write_bytes(content), report)


def temporary(write, report=None):
    """The joint model that ``write`` writes to a path, in a temporary file that goes with the object."""
    folder = TemporaryDirectory(prefix="onnx-zip-")
    path = Path(folder.name) / "joint.onnx"
    write(path)
    joint = Joint._of(_native.NativeJoint.open(str(path)), report)
    joint._folder = folder
    return joint
