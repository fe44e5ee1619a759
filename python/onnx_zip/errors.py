"""Exceptions, whose texts are the sentences of the command line."""

__all__ = [
    "BackendError",
    "DataError",
    "Error",
    "FileError",
    "FormatError",
    "MemoryLimitError",
    "MisalignedError",
    "NumericError",
    "RequirementError",
    "UnsupportedError",
    "UsageError",
    "VerificationError",
]


class Error(Exception):
    """What went wrong, where, and what to do next, in one sentence."""


class FileError(Error, OSError):
    """A file could not be read or written."""


class UsageError(Error, ValueError):
    """An argument or option does not make sense."""


class FormatError(Error, ValueError):
    """A file does not follow its format."""


class UnsupportedError(Error):
    """The model is valid but uses an unsupported feature."""


class MisalignedError(Error):
    """The models have no layers that could be merged with each other."""


class DataError(Error, ValueError):
    """The data does not fit the model."""


class NumericError(Error, ArithmeticError):
    """A numerical step failed."""


class BackendError(Error):
    """A runtime is missing or refused the model."""


class VerificationError(Error):
    """A joint model does not compute the outputs that it should."""


class MemoryLimitError(Error, MemoryError):
    """A step would need more memory than is allowed."""


class RequirementError(Error):
    """The joint model does not meet ``require``.

    Attributes
    ----------
    joint : Joint
        The joint model.
    """

    def __init__(self, message, joint=None):
        super().__init__(message)
        self.joint = joint
