"""Reports of the commands."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

# Other names of suffixes.
_SUFFIXES = {".htm": ".html", ".markdown": ".md"}

# What a suffix stands for.
_FORMS = {".html": "HTML", ".md": "model card", ".csv": "table"}


class Report(Mapping):
    """The result of a command.

    It is a mapping that cannot be changed: ``report["joint"]["bytes"]``. ``str()`` gives the text that the
    command line prints, and notebooks show HTML where there is some.
    """

    def __init__(self, text, data, html=None, card=None):
        self._text = text
        self._json = data
        self._html = html
        self._card = card
        self._data = json.loads(data)

    def to_dict(self):
        """The whole report, as dicts, lists, numbers and strings.

        Returns
        -------
        dict
        """
        return json.loads(self._json)

    def save(self, path):
        """Writes it to a file.

        Parameters
        ----------
        path : str or os.PathLike
            ``.json``, ``.html``, ``.md`` for a model card, as far as there are such, or, for the text,
            any other name.
        """
        path = Path(os.fspath(path))
        suffix = path.suffix.lower()
        suffix = _SUFFIXES.get(suffix, suffix)
        texts = self._texts()
        if suffix in _FORMS and texts.get(suffix) is None:
            raise ValueError(f"this report has no {_FORMS[suffix]}: name a .json or .txt file")
        path.write_text(texts.get(suffix, self._text), encoding="utf-8")

    def _texts(self):
        """Its texts by suffix of the file; ``None`` for those that it does not have."""
        json_text = json.dumps(self._data, indent=2) + "\n"
        return {".json": json_text, ".html": self._html, ".md": self._card}

    def __getitem__(self, key):
        return self._data[key]

    def __iter__(self):
        return iter(self._data)

    def __len__(self):
        return len(self._data)

    def __str__(self):
        return self._text

    def __repr__(self):
        return self._text

    def _repr_html_(self):
        if self._html is None:
            return None
        # A frame keeps the report's style and the notebook's apart.
        source = self._html.replace("&", "&amp;").replace('"', "&quot;")
        return (
            f'<iframe srcdoc="{source}" style="width: 100%; height: 40em; border: 0"'
            ' title="Report of onnx-zip"></iframe>'
        )


class Verification(Report):
    """How a joint model compares with its originals."""

    @property
    def passed(self):
        """bool: Whether nothing failed."""
        return not self["failures"]

    def __bool__(self):
        return self.passed


class Frontier(Report):
    """The curve of size against loss: joint models of several sizes, and what each costs the tasks."""

    def __init__(self, text, data, html, csv, markdown):
        super().__init__(text, data, html, markdown)
        self._csv = csv

    @property
    def points(self):
        """list of dict: The joint models, from the smallest to the largest."""
        return self["points"]

    @property
    def knee(self):
        """dict or None: The point nearest to the smallest size at the smallest loss."""
        return next((point for point in self.points if point["knee"]), None)

    def save(self, path):
        """Writes it to a file.

        Parameters
        ----------
        path : str or os.PathLike
            ``.html``, ``.json``, ``.csv``, ``.md`` or, for the text, any other name.
        """
        super().save(path)

    def _texts(self):
        return {**super()._texts(), ".csv": self._csv}
