"""Keywords of the functions: the options of the command line, from its own table."""

import difflib
import inspect
import json
import os
import re
import textwrap
from collections.abc import Mapping
from functools import cache

from . import _native

_TYPES = {
    "N": "int",
    "F": "float or str",
    "E": "float",
    "PT": "float",
    "X": "float",
    "A,…": "float",
    "W,…": "float",
    "V,…": "float",
    "S": "float or str",
    "T": "float",
    "W": "float",
    "R": "float",
    "D": "float",
    "SIZE": "int or str",
    "PATH": "path",
    "FILE": "path",
    "DIR": "path",
    "GLOB=N|F|eE": "dict or str",
    "NAME=SIZE": "dict of int or str",
    "INPUT=NAME": "dict of str or str",
    "WxH": "tuple or str",
}


class Keyword:
    """One option as a keyword."""

    def __init__(self, row):
        self.flag = row["flag"]
        self.name = row["flag"].replace("-", "_")
        self.value = row["value"]
        self.choices = row["choices"]
        self.is_list = row["is_list"]
        self.is_required = row["is_required"]
        self.help = row["help"]
        self.default = self._default(row["default"])

    def _default(self, text):
        if self.value is None:
            return False
        if text is None:
            return None
        if self.choices:
            return text
        for convert in (int, float):
            try:
                return convert(text)
            except ValueError:
                pass
        return text

    @property
    def type(self):
        """Its type in words."""
        if self.value is None:
            return "bool"
        if self.choices:
            kind = "{" + ", ".join(f"'{name}'" for name, _ in self.choices) + "}"
        else:
            kind = _TYPES.get(self.value, "str")
        return f"{kind} or list" if self.is_list else kind

    def arguments(self, value):
        """The equivalent arguments of the command line."""
        if value is None or value is False:
            return []
        if self.value is None:
            return [f"--{self.flag}"] if value else []
        if self.is_list and isinstance(value, Mapping):
            value = [f"{key}={_text(amount)}" for key, amount in value.items()]
        many = not isinstance(value, (str, os.PathLike)) and _is_iterable(value)
        if many and not self.is_list:
            # Width and height.
            value, many = "x".join(map(_text, value)), False
        return [f"--{self.flag}={_text(one)}" for one in (value if many else [value])]


def _is_iterable(value):
    try:
        iter(value)
    except TypeError:
        return False
    return True


def _text(value):
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    # Numbers of numpy and torch are written as those of Python.
    value = value.item() if hasattr(value, "item") else value
    return repr(value)


@cache
def keywords(command):
    """The keywords of a command, by their names."""
    rows = json.loads(_native.keywords(command))
    return {keyword.name: keyword for keyword in map(Keyword, rows)}


def arguments(command, given):
    """The arguments of the command line for the given keywords."""
    known = keywords(command)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise TypeError(f"{command}() got an unexpected keyword argument '{name}'{meant}")
    for keyword in known.values():
        if keyword.is_required and given.get(keyword.name) is None:
            raise TypeError(f"{command}() missing a required keyword argument: '{keyword.name}'")
    return [text for name, value in given.items() for text in known[name].arguments(value)]


def documented(command):
    """Gives a function with ``**options`` the signature and the documentation of a command's options."""

    def decorate(function):
        signature = inspect.signature(function)
        fixed = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        rows = sorted(keywords(command).values(), key=lambda keyword: not keyword.is_required)
        added = [
            inspect.Parameter(
                k.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if k.is_required else k.default,
            )
            for k in rows
        ]
        function.__signature__ = signature.replace(parameters=fixed + added)
        function.__doc__ = inspect.cleandoc(function.__doc__).replace(
            "**options\n    OPTIONS", "\n".join(map(_section, rows))
        )
        return function

    return decorate


def _section(keyword):
    optional = "" if keyword.is_required else f", default: {keyword.default!r}"
    return f"{keyword.name} : {keyword.type}{optional}\n" + textwrap.indent(_help(keyword), "    ")


def _help(keyword):
    """The help of an option, with the names of keywords in place of flags."""
    text = re.sub(
        r"--([a-z][a-z-]+)", lambda m: f"``{m[1].replace('-', '_')}``", keyword.help.strip()
    )
    lines = [textwrap.fill(part, 92) for part in text.split("\n\n")]
    lines += [
        textwrap.fill(f"* ``'{name}'``: {about}", 92, subsequent_indent="  ")
        for name, about in keyword.choices
    ]
    return "\n".join(lines)
