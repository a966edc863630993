"""Draws the sample images of ``fastinfer demo``: ``python training/samples.py`` writes ``src/fastinfer/samples``.

Flat icons out of circles, polygons and thick round strokes; digits are strokes too, so that no font is involved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).parents[1] / "src/fastinfer/samples"
FINE = 4
EXIF_ORIENTATION = 0x0112

WHITE, INK, BROWN, CREAM = "#ffffff", "#2b2d33", "#8b5a2b", "#fff3dc"
RED, BLUE, YELLOW, PURPLE = "#e02020", "#2563eb", "#f7d417", "#7e3bc4"
Point = tuple[float, float]


class Pen:
    """Draws on a square whose sides run from 0 to 100, y downwards."""

    def __init__(self, size: int, background: str | None) -> None:
        self._size = size
        self._scale = size * FINE / 100
        self._image = Image.new("RGBA", (size * FINE, size * FINE), background or (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: list[Point], fill: str) -> None:
        self._draw.polygon([(x * self._scale, y * self._scale) for x, y in points], fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: str, radius: float = 0) -> None:
        s = self._scale
        self._draw.rounded_rectangle((x0 * s, y0 * s, x1 * s, y1 * s), radius * s, fill=fill)

    def circle(self, x: float, y: float, r: float, fill: str) -> None:
        self.oval(x, y, r, r, fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: str) -> None:
        s = self._scale
        self._draw.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=fill)

    def stroke(self, points: list[Point], fill: str, width: float) -> None:
        """A line with round ends and corners."""
        scaled = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.line(scaled, fill=fill, width=round(width * self._scale))
        for x, y in points:
            self.circle(x, y, width / 2, fill)

    def done(self) -> Image.Image:
        return self._image.resize((self._size, self._size), Image.Resampling.LANCZOS)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 48) -> list[Point]:
    """Points on an ellipse; degrees clockwise from the right, as y runs downwards."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def red_circle(pen: Pen) -> None:
    pen.circle(50, 50, 38, RED)


def blue_square(pen: Pen) -> None:
    pen.box(16, 16, 84, 84, BLUE)


def yellow_star(pen: Pen) -> None:
    corners = []
    for i in range(10):
        radius = 19 if i % 2 else 44
        angle = math.radians(36 * i - 90)
        corners.append((50 + radius * math.cos(angle), 53 + radius * math.sin(angle)))
    pen.polygon(corners, YELLOW)


def purple_heart(pen: Pen) -> None:
    curve = []
    for i in range(180):
        t = math.radians(2 * i)
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        curve.append((50 + 2.5 * 16 * math.sin(t) ** 3, 46 - 2.5 * y))
    pen.polygon(curve, PURPLE)


def three(pen: Pen) -> None:
    pen.stroke(arc(47, 33, 19, 18, -150, 90), INK, 10)
    pen.stroke(arc(47, 69, 21, 18, -90, 150), INK, 10)


def seven(pen: Pen) -> None:
    pen.stroke([(27, 16), (73, 16), (44, 85)], INK, 10)


def tree(pen: Pen) -> None:
    pen.polygon([(44, 52), (56, 52), (60, 94), (40, 94)], BROWN)
    for x, y, r in ((34, 50, 20), (66, 50, 20), (50, 32, 25), (50, 52, 20)):
        pen.circle(x, y, r, "#3f9a3b")
    for x, y, r in ((40, 30, 7), (60, 44, 8), (33, 50, 6)):
        pen.circle(x, y, r, "#5bb552")


def umbrella(pen: Pen) -> None:
    pen.stroke([(50, 10), (50, 82)], BROWN, 4)
    pen.stroke(arc(58, 82, 8, 8, 180, 0), BROWN, 4)
    pen.polygon(arc(50, 52, 42, 38, 180, 360), PURPLE)
    pen.polygon(arc(50, 52, 14, 38, 180, 360), "#a06ddb")
    for x in (22, 50, 78):
        pen.oval(x, 53, 14, 6, WHITE)
    pen.stroke([(50, 45), (50, 82)], BROWN, 4)


def fish(pen: Pen) -> None:
    pen.polygon([(66, 50), (94, 28), (88, 50), (94, 72)], "#2b7fc4")
    pen.polygon([(40, 32), (58, 14), (66, 36)], "#2b7fc4")
    pen.polygon([(44, 66), (58, 82), (62, 64)], "#2b7fc4")
    pen.oval(42, 50, 36, 22, "#45a5e6")
    pen.stroke(arc(22, 50, 12, 16, -55, 55), "#2b7fc4", 2.5)
    pen.circle(20, 45, 4.5, WHITE)
    pen.circle(19.5, 45, 2.4, INK)


def mushroom(pen: Pen) -> None:
    pen.polygon([(39, 50), (61, 50), (66, 84), (60, 90), (40, 90), (34, 84)], CREAM)
    pen.stroke([(39, 54), (34, 84), (40, 90), (60, 90), (66, 84), (61, 54)], "#dcc7a0", 1.6)
    pen.polygon(arc(50, 56, 42, 44, 180, 360), RED)
    pen.oval(50, 56, 42, 6, RED)
    for x, y, r in ((50, 28, 8), (27, 44, 6.5), (73, 44, 6.5), (46, 49, 4)):
        pen.circle(x, y, r, WHITE)


def key(pen: Pen) -> None:
    pen.stroke([(42, 42), (84, 84)], "#e0a81c", 8)
    pen.stroke([(72, 72), (82, 62)], "#e0a81c", 7)
    pen.stroke([(83, 83), (91, 75)], "#e0a81c", 7)
    pen.circle(32, 32, 22, "#e0a81c")
    pen.circle(27, 27, 8, WHITE)


def car(pen: Pen) -> None:
    pen.polygon([(22, 50), (34, 28), (66, 28), (82, 50)], RED)
    pen.box(6, 46, 94, 70, RED, 7)
    pen.polygon([(29, 48), (37, 33), (49, 33), (49, 48)], "#bfe3f5")
    pen.polygon([(53, 48), (53, 33), (64, 33), (74, 48)], "#bfe3f5")
    for x in (27, 73):
        pen.circle(x, 70, 12, INK)
        pen.circle(x, 70, 5, "#c9ced6")
    pen.box(89, 51, 94, 57, YELLOW, 2)


@dataclass(frozen=True)
class Sample:
    """One file: what is drawn, how large, and how it is stored."""

    file: str
    draw: Callable[[Pen], None]
    size: int
    background: str | None = WHITE
    sideways: bool = False  # stored turned, as a phone stores a picture, with the turn in its EXIF orientation


SAMPLES = (
    Sample("3.png", three, 160),
    Sample("7.png", seven, 160),
    Sample("blue-square.png", blue_square, 200),
    Sample("car.jpg", car, 288, "#e8f3fb", sideways=True),
    Sample("fish.png", fish, 256, None),
    Sample("key.png", key, 256),
    Sample("mushroom.jpg", mushroom, 256, "#f1f7ea"),
    Sample("purple-heart.jpg", purple_heart, 224),
    Sample("red-circle.png", red_circle, 200),
    Sample("tree.jpg", tree, 320, "#f4f9ff"),
    Sample("umbrella.png", umbrella, 256),
    Sample("yellow-star.png", yellow_star, 240),
)


def save(sample: Sample) -> Path:
    pen = Pen(sample.size, sample.background)
    sample.draw(pen)
    image, path = pen.done(), FOLDER / sample.file
    exif = Image.Exif()
    if sample.sideways:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[EXIF_ORIENTATION] = 6
    if sample.background:
        image = image.convert("RGB")
    image.save(path, exif=exif, quality=88, optimize=True)
    return path


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    paths = [save(sample) for sample in SAMPLES]
    print(f"{len(paths)} images, {sum(path.stat().st_size for path in paths):,} bytes, in {FOLDER}")


if __name__ == "__main__":
    main()
