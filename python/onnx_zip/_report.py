"""Reports of the commands."""

import json
import os
from pathlib import Path


class Report:
    """The result of a command.

    Entries are read as from a dict: ``report["joint"]["bytes"]``. ``str()`` gives the text that the
    command line prints, and notebooks show HTML where there is some.
    """

    def __init__(self, text, data, html=None):
        self._text = text
        self._json = data
        self._html = html
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
            ``.json``, ``.html`` or, for the text, any other name.
        """
        path = Path(os.fspath(path))
        if path.suffix == ".html" and self._html is None:
            raise ValueError("this report has no HTML: name a .json or .txt file")
        path.write_text(self._texts().get(path.suffix, self._text), encoding="utf-8")

    def _texts(self):
        """Its texts by suffix of the file."""
        return {".json": json.dumps(self._data, indent=2) + "\n", ".html": self._html}

    def __getitem__(self, key):
        return self._data[key]

    def keys(self):
        """Names of its entries."""
        return self._data.keys()

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
        super().__init__(text, data, html)
        self._csv = csv
        self._markdown = markdown

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
        return {**super()._texts(), ".csv": self._csv, ".md": self._markdown}
