"""Progress of long work: bars, warnings and remarks."""

import logging
import warnings

logger = logging.getLogger("onnx_zip")


class Listener:
    """Reports warnings and remarks only."""

    def begin(self, stage, steps):
        """A stage begins."""

    def step(self):
        """One step of the stage is done."""

    def status(self, message):
        """The state of the stage."""
        logger.info(message)

    def note(self, message):
        """Something the user should know."""
        logger.info(message)

    def warn(self, message):
        """Something the user must not overlook."""
        warnings.warn(message, UserWarning, stacklevel=3)

    def close(self):
        """The end of all stages."""


class Bars(Listener):
    """A bar per stage, by tqdm."""

    def __init__(self, tqdm):
        self._tqdm = tqdm
        self._bar = None

    def begin(self, stage, steps):
        self.close()
        self._bar = self._tqdm(total=steps, desc=stage, leave=False)

    def step(self):
        if self._bar is not None:
            self._bar.update()

    def status(self, message):
        if self._bar is not None:
            self._bar.set_postfix_str(message)

    def close(self):
        if self._bar is not None:
            self._bar.close()
        self._bar = None


class Calls(Listener):
    """Calls a function with the stage, the steps done and all steps."""

    def __init__(self, function):
        self._function = function
        self._stage, self._done, self._steps = "", 0, 0

    def begin(self, stage, steps):
        self._stage, self._done, self._steps = stage, 0, steps
        self._function(stage, 0, steps)

    def step(self):
        self._done += 1
        self._function(self._stage, self._done, self._steps)


def listener(progress):
    """The listener for ``progress``: none, tqdm's bars, or a function."""
    if callable(progress):
        return Calls(progress)
    if not progress:
        return Listener()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        logger.info("progress bars need the package tqdm")
        return Listener()
    return Bars(tqdm)
