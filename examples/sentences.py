"""Sentences as the tokens of BERT's vocabulary."""

import re
from functools import cache
from pathlib import Path

import numpy as np


@cache
def sentences(folder: Path) -> list[str]:
    """Sentences of the Markdown files of a folder."""
    texts = [re.sub(r"[`*_|#>]", " ", file.read_text()) for file in sorted(folder.glob("*.md"))]
    found = re.split(r"(?<=[.?!])\s+", " ".join(texts))
    return [text.strip() for text in found if 30 < len(text) < 300]


@cache
def numbers(vocabulary: Path) -> dict[str, int]:
    """The number of each token."""
    return {token: i for i, token in enumerate(vocabulary.read_text().split("\n"))}


def pieces(word: str, known: dict[str, int]) -> list[int]:
    """WordPiece: the longest known token first."""
    found, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if mark + word[start:end] in known), None)
        if end is None:
            return [known["[UNK]"]]
        found.append(known[mark + word[start:end]])
        start = end
    return found


def tokenised(
    rng: np.random.Generator, folder: Path, vocabulary: Path, length: int
) -> dict[str, np.ndarray]:
    """One sentence, padded to a length, with the mask of its tokens."""
    known = numbers(vocabulary)
    words = re.findall(r"\w+|[^\w\s]", str(rng.choice(sentences(folder))).lower())
    tokens = [piece for word in words for piece in pieces(word, known)][: length - 2]
    tokens = [known["[CLS]"], *tokens, known["[SEP]"]]
    rest = length - len(tokens)
    return {
        "input_ids": np.array(tokens + [known["[PAD]"]] * rest, np.int64),
        "attention_mask": np.array([1] * len(tokens) + [0] * rest, np.int64),
    }
