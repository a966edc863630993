"""The training pictures, rasterised once: icon sets, drawn shapes, printed and handwritten digits.

Every picture is RGBA, ``SIZE`` x ``SIZE``; backgrounds are added while training.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import resvg_py
from concepts import COLOURS, EVERYDAY, SHAPES, Concept, load_concepts, slug
from PIL import Image, ImageDraw, ImageFont

SIZE = 160
#: npm packages of the scope @iconify-json: pictograms in colour, then line and glyph icons of everyday things.
COLOUR_SETS = (
    "twemoji", "noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast",
    "emojione", "emojione-monotone", "fxemoji", "streamline-emojis",
)  # fmt: skip
ICON_SETS = ("tabler", "ph", "mdi", "fa6-solid", "game-icons", "lucide")
UNSEEN_SET = "openmoji"
#: Words that mean something else in user-interface icon sets.
AMBIGUOUS = {"mouse", "crane", "seal", "bat", "cricket", "drum", "om", "bug", "ring", "page", "label", "link", "ant"}


@dataclass
class Pictures:
    """Training pictures and their concepts; ``style`` tells the set a picture came from."""

    rgba: list[np.ndarray] = field(default_factory=list)
    concept: list[int] = field(default_factory=list)
    style: list[str] = field(default_factory=list)

    def add(self, picture: np.ndarray, concept: int, style: str) -> None:
        self.rgba.append(picture)
        self.concept.append(concept)
        self.style.append(style)


def rasterise(svg: str, size: int = SIZE) -> np.ndarray:
    """An SVG document as RGBA ``size`` x ``size`` uint8."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if picture.size != (size, size):
        canvas = Image.new("RGBA", (size, size))
        picture.thumbnail((size, size))
        canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
        picture = canvas
    return np.asarray(picture)


def _rasterise_all(svgs: list[str]) -> list[np.ndarray | None]:
    pictures: list[np.ndarray | None] = []
    for svg in svgs:
        try:
            pictures.append(rasterise(svg))
        except ValueError:
            pictures.append(None)
    return pictures


def read_icons(packages: Path, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Icons of one set as SVG documents by icon name, and icon names by Unicode code point."""
    (archive,) = packages.glob(f"iconify-json-{name}-[0-9]*.tgz")
    with tarfile.open(archive) as tar:
        icons = json.load(tar.extractfile("package/icons.json"))
        characters = json.load(tar.extractfile("package/chars.json"))
    width, height = icons.get("width", 16), icons.get("height", 16)
    svgs = {}
    for key, icon in icons["icons"].items():
        w, h = icon.get("width", width), icon.get("height", height)
        body = icon["body"].replace("currentColor", "#202020")
        svgs[key] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {w} {h}">{body}</svg>'
        )
    for alias, target in icons.get("aliases", {}).items():
        if set(target) == {"parent"} and target["parent"] in svgs:
            svgs.setdefault(alias, svgs[target["parent"]])
    return svgs, {code.replace("-fe0f", ""): key for code, key in characters.items()}


def find_icons(concept: Concept, svgs: dict[str, str], by_code: dict[str, str], general: bool) -> list[str]:
    """The SVGs of a set that show the concept. General icon sets are matched by the plain name alone."""
    if general:
        if concept.name in AMBIGUOUS:
            return []
        name = slug(concept.name)
        keys = [k for k in (name, f"{name}-fill", f"{name}-duotone", f"{name}-filled", f"{name}-outline") if k in svgs]
        return [svgs[k] for k in keys]
    keys = [by_code[code] for code in concept.hexcodes if by_code.get(code) in svgs]
    for name in concept.slugs:
        for candidate in (name, name.replace("-", ""), f"{name}-1"):
            if candidate in svgs:
                keys.append(candidate)
                break
    return [svgs[k] for k in dict.fromkeys(keys)]


def shape_svg(shape: str, colour: str, rng: random.Random) -> str:
    """One drawing of a shape: size, tone, corner rounding and outline vary."""
    base = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)
    tone = np.clip(base * rng.uniform(0.86, 1.08) + rng.uniform(-10, 10), 0, 255).astype(int)
    fill = "#{:02x}{:02x}{:02x}".format(*tone)
    edge = rng.choice(["none", "none", "#000000", "#333333", "#ffffff"])
    r = rng.uniform(30, 47)
    stretch = rng.uniform(0.9, 1.1)

    def polygon(corners: int, inner: float = 1.0, turn: float = -90.0) -> str:
        points = []
        total = corners * (2 if inner != 1.0 else 1)
        for i in range(total):
            radius = r * (inner if inner != 1.0 and i % 2 else 1.0)
            angle = math.radians(turn + 360.0 * i / total)
            points.append(f"{50 + radius * math.cos(angle):.2f},{50 + stretch * radius * math.sin(angle):.2f}")
        return f'<polygon points="{" ".join(points)}"'

    thin = rng.uniform(0.22, 0.4) * r
    drawings = {
        "circle": f'<circle cx="50" cy="50" r="{r}"',
        "oval": f'<ellipse cx="50" cy="50" rx="{r}" ry="{r * rng.uniform(0.5, 0.72)}"',
        "square": f'<rect x="{50 - r * 0.8}" y="{50 - r * 0.8}" width="{r * 1.6}" height="{r * 1.6}" rx="{rng.choice([0, 0, 3, 6])}"',
        "rectangle": f'<rect x="{50 - r}" y="{50 - r * 0.55}" width="{r * 2}" height="{r * rng.uniform(0.8, 1.2)}" rx="{rng.choice([0, 0, 3, 6])}"',
        "triangle": polygon(3),
        "pentagon": polygon(5),
        "hexagon": polygon(6, turn=rng.choice([0.0, 30.0])),
        "star": polygon(5, inner=rng.uniform(0.38, 0.5)),
        "diamond": f'<polygon points="50,{50 - r} {50 + r * 0.72},50 50,{50 + r} {50 - r * 0.72},50"',
        "cross": f'<path d="M{50 - thin},{50 - r}H{50 + thin}V{50 - thin}H{50 + r}V{50 + thin}H{50 + thin}V{50 + r}H{50 - thin}V{50 + thin}H{50 - r}V{50 - thin}H{50 - thin}Z"',
        "heart": f'<path transform="translate(50 50) scale({r / 50})" d="M0,42 C-60,0 -45,-42 -20,-42 C-8,-42 0,-34 0,-24 C0,-34 8,-42 20,-42 C45,-42 60,0 0,42Z"',
        "arrow": f'<path d="M{50 - r},{50 - thin}H50V{50 - thin * 2.2}L{50 + r},50L50,{50 + thin * 2.2}V{50 + thin}H{50 - r}Z"',
    }
    turn = rng.uniform(-12, 12)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><g transform="rotate({turn} 50 50)">'
        f'{drawings[shape]} fill="{fill}" stroke="{edge}" stroke-width="{rng.uniform(1.5, 5)}"/></g></svg>'
    )


def printed_digits() -> list[tuple[int, np.ndarray]]:
    """Digits 0-9 in the fonts that come with matplotlib."""
    from matplotlib import get_data_path

    fonts = sorted((Path(get_data_path()) / "fonts/ttf").glob("*.ttf"))
    fonts = [
        f for f in fonts if re.match(r"DejaVu|STIXGeneral|cmr10|cmss10|cmtt10", f.name) and "Display" not in f.name
    ]
    drawn = []
    for path in fonts:
        font = ImageFont.truetype(str(path), 130)
        for digit in range(10):
            picture = Image.new("RGBA", (SIZE, SIZE))
            ImageDraw.Draw(picture).text(
                (SIZE // 2, SIZE // 2), str(digit), fill=(20, 20, 20, 255), font=font, anchor="mm"
            )
            drawn.append((digit, np.asarray(picture)))
    return drawn


def handwritten_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's digits, split for good: ink in [0, 1] (n, 8, 8) and labels, for training and for test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    return train_test_split(digits.images / 16.0, digits.target, test_size=0.25, random_state=0, stratify=digits.target)


def digit_picture(ink: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Ink of one handwritten digit (8, 8) as RGBA: black strokes whose alpha is the ink."""
    alpha = Image.fromarray((ink * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    picture = np.zeros((size, size, 4), np.uint8)
    picture[..., 3] = np.asarray(alpha)
    return picture


def everyday_pictures(packages: Path, size: int) -> list[Image.Image]:
    """The everyday things, in the order of ``EVERYDAY``, in the unseen style: RGB on white, ``size`` x ``size``."""
    concepts = {c.name: c for c in load_concepts(packages)}
    svgs, by_code = read_icons(packages, UNSEEN_SET)
    pictures = []
    for name in EVERYDAY:
        picture = Image.fromarray(rasterise(find_icons(concepts[name], svgs, by_code, general=False)[0], size))
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        pictures.append(white)
    return pictures


def _chunks(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def build(packages: Path, workers: int) -> tuple[list[Concept], Pictures, list[tuple[int, np.ndarray]]]:
    """Concepts, training pictures, and the unseen style's pictures as (concept, RGBA)."""
    concepts = load_concepts(packages)
    index = {c.name: i for i, c in enumerate(concepts)}

    def concept_of(name: str, flip: bool) -> int:
        if name not in index:
            index[name] = len(concepts)
            concepts.append(Concept(name, (), (), (), (), flip, recolour=False))
        return index[name]

    jobs: list[tuple[str, int, str]] = []
    for style in (*COLOUR_SETS, *ICON_SETS, UNSEEN_SET):
        svgs, by_code = read_icons(packages, style)
        for i, concept in enumerate(concepts):
            jobs += [(svg, i, style) for svg in find_icons(concept, svgs, by_code, style in ICON_SETS)]
    rng = random.Random(0)
    for shape in SHAPES:
        for name, colour in COLOURS.items():
            concept = concept_of(f"{name} {shape}", flip=True)
            jobs += [(shape_svg(shape, colour, rng), concept, "shapes") for _ in range(16)]

    pictures, unseen = Pictures(), []
    with ProcessPoolExecutor(workers) as pool:
        drawn = [p for part in pool.map(_rasterise_all, _chunks([j[0] for j in jobs], 64)) for p in part]
    for (_, concept, style), picture in zip(jobs, drawn, strict=True):
        if picture is None or picture[..., 3].max() == 0:
            continue
        if style == UNSEEN_SET:
            unseen.append((concept, picture))
        else:
            pictures.add(picture, concept, style)
    for digit, picture in printed_digits():
        pictures.add(picture, concept_of(str(digit), flip=False), "printed digits")
    inks, _, labels, _ = handwritten_digits()
    for ink, label in zip(inks, labels, strict=True):
        pictures.add(digit_picture(ink), concept_of(str(label), flip=False), "handwritten digits")
    return concepts, pictures, unseen
