"""Images of text as models of published packages see them."""

from typing import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = "merge share layer neuron weight task input output model channel error price".split()


def words(rng: np.random.Generator) -> str:
    """Some text that fits a line."""
    return " ".join(rng.choice(WORDS, 2)) + f" {rng.integers(10, 1000)}"


def text_image(
    rng: np.random.Generator,
    width: int,
    height: int,
    lines: int,
    text: Callable[[], str] | None = None,
) -> Image.Image:
    """Dark text on a light ground that is neither even nor the same each time."""
    ground = rng.normal(rng.uniform(190, 245), 4, (height, width, 3)).clip(0, 255)
    image = Image.fromarray(ground.astype(np.uint8))
    room = height / lines
    for line in range(lines):
        font = ImageFont.load_default(size=room * rng.uniform(0.5, 0.75))
        ink = tuple(int(c) for c in rng.integers(0, 90, 3))
        place = rng.uniform(2, 12), line * room + rng.uniform(0, room / 6)
        ImageDraw.Draw(image).text(place, text() if text else words(rng), fill=ink, font=font)
    return image


def pixels(image: Image.Image, mean: list[float], std: list[float]) -> np.ndarray:
    """As [3, height, width], prepared as the packages do."""
    values = np.asarray(image, np.float32) / 255
    return ((values - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


def pages(rng: np.random.Generator) -> np.ndarray:
    """A page with a few lines, for detectors."""
    image = text_image(rng, 256, 128, int(rng.integers(2, 5)))
    return pixels(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def line(rng: np.random.Generator) -> np.ndarray:
    """A line of text, for recognisers."""
    return pixels(text_image(rng, 256, 48, 1), [0.5] * 3, [0.5] * 3)


def word(rng: np.random.Generator) -> np.ndarray:
    """A word and a number, for recognisers of small images."""
    image = text_image(rng, 128, 32, 1, lambda: f"{rng.choice(WORDS)}{rng.integers(10, 100)}")
    return pixels(image, [0.5] * 3, [0.5] * 3)


def turned(width: int, height: int, lines: int, quarters: tuple[int, ...]) -> Callable:
    """Text that stands in one of several ways, for classifiers of its orientation."""

    def sample(rng: np.random.Generator) -> np.ndarray:
        image = text_image(rng, width, height, lines)
        image = image.rotate(90 * int(rng.choice(quarters)))
        return pixels(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    return sample
