"""What the embedded model learns to name: pictograms, digits and shapes, with the words people use for them.

Names come from emojibase (CLDR names, keywords and shortcodes); the table of corrections below turns
Unicode's wording into everyday English ("automobile" -> "car").
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

PLAIN = {
    "automobile": "car",
    "oncoming automobile": "car",
    "lady beetle": "ladybug",
    "honeybee": "bee",
    "soccer ball": "soccer ball",
    "american football": "american football",
    "ear of corn": "corn",
    "cheese wedge": "cheese",
    "glass of milk": "milk",
    "hot beverage": "coffee",
    "wine glass": "wine",
    "beer mug": "beer",
    "cocktail glass": "cocktail",
    "slice of pizza": "pizza",
    "wrapped gift": "gift",
    "mobile phone": "phone",
    "headphone": "headphones",
    "couch and lamp": "couch",
    "open book": "book",
    "closed umbrella": "closed umbrella",
    "locomotive": "steam train",
    "delivery truck": "truck",
    "high voltage": "lightning",
    "spouting whale": "whale",
    "blowfish": "pufferfish",
    "sauropod": "dinosaur",
    "t-rex": "tyrannosaurus",
    "baguette bread": "baguette",
    "kiwi fruit": "kiwi",
    "hot pepper": "chili pepper",
    "ginger root": "ginger",
    "bowl with spoon": "bowl",
    "poultry leg": "chicken leg",
    "leafy green": "lettuce",
    "green salad": "salad",
    "honey pot": "honey",
    "candy": "candy",
    "doughnut": "donut",
    "magnifying glass tilted left": "magnifying glass",
    "magnifying glass tilted right": "magnifying glass",
    "fork and knife": "fork and knife",
    "bouquet": "bouquet",
    "deciduous tree": "tree",
    "evergreen tree": "pine tree",
    "potted plant": "potted plant",
    "fire": "fire",
    "pile of poo": "poop",
    "wastebasket": "trash can",
    "pool 8 ball": "billiard ball",
    "game die": "dice",
    "bullseye": "target",
    "locked": "lock",
    "unlocked": "open lock",
    "snow-capped mountain": "snowy mountain",
    "chequered flag": "checkered flag",
    "musical note": "musical note",
    "musical keyboard": "piano",
    "kitchen knife": "knife",
    "running shoe": "sneaker",
    "high-heeled shoe": "high heel",
    "billed cap": "cap",
    "woman’s hat": "hat",
    "woman’s clothes": "blouse",
    "man’s shoe": "shoe",
    "woman’s boot": "boot",
    "woman’s sandal": "sandal",
    "rescue worker’s helmet": "rescue helmet",
    "gem stone": "diamond",
    "desktop computer": "computer",
    "roll of paper": "toilet paper",
    "adhesive bandage": "bandage",
    "carpentry saw": "saw",
    "balance scale": "scale",
    "studio microphone": "studio microphone",
    "passenger ship": "cruise ship",
    "police car light": "siren",
    "vertical traffic light": "traffic light",
    "horizontal traffic light": "traffic light",
    "globe showing europe-africa": "globe",
    "globe showing americas": "globe",
    "globe showing asia-australia": "globe",
    "backhand index pointing left": "hand pointing left",
    "backhand index pointing right": "hand pointing right",
    "backhand index pointing up": "hand pointing up",
    "backhand index pointing down": "hand pointing down",
    "heavy dollar sign": "dollar sign",
    "hundred points": "hundred",
    "sparkles": "sparkles",
    "jack-o-lantern": "pumpkin",
    "bug": "caterpillar",
    "wood": "log",
    "sun behind cloud": "partly cloudy",
    "cloud with rain": "rain cloud",
    "cloud with snow": "snow cloud",
    "cloud with lightning": "storm cloud",
    "umbrella with rain drops": "umbrella in the rain",
    "fish cake with swirl": "fish cake",
    "two-hump camel": "camel",
    "ox": "ox",
    "ewe": "sheep",
    "front-facing baby chick": "chick",
    "baby chick": "chick",
    "tear-off calendar": "calendar",
    "spiral calendar": "calendar",
    "closed book": "closed book",
    "page facing up": "page",
    "page with curl": "page",
    "person in lotus position": "meditation",
    "hourglass not done": "hourglass",
    "hourglass done": "hourglass",
    "ring buoy": "lifebuoy",
    "sport utility vehicle": "suv",
    "articulated lorry": "semi truck",
    "auto rickshaw": "rickshaw",
    "smiling face with heart-eyes": "heart eyes",
    "face with tears of joy": "tears of joy",
}

#: The 100 things that accuracy in the unseen style is measured on.
EVERYDAY = (Path(__file__).parent / "everyday.txt").read_text("utf-8").splitlines()

FACES = {"animal-mammal", "animal-reptile"}
SKIPPED_SUBGROUPS = {
    "alphanum", "country-flag", "subdivision-flag", "family", "skin-tone", "hair-style", "gender",
    "av-symbol", "transport-sign", "zodiac", "person-gesture", "other-symbol", "punctuation",
}  # fmt: skip
SKIPPED_NAMES = re.compile(
    r"facing right|-thirty|o’clock|button|medium|small square|Japanese (?:post|castle|dolls|symbol)|Mx Claus|"
    r"hair$|: (?:beard|bald)|pointed|small (?:orange|blue)|^trackball$|keycap: [#*]|black large|white large|curving|"
    r"^(?:men|women|people) |^(?:man|woman) (?!.*(?:dancing))|busts|mailbox|crescent moon$|quarter|gibbous"
)
COLOURS = {
    "red": "#e02020", "orange": "#f58a07", "yellow": "#f7d417", "green": "#2ea043", "blue": "#2563eb",
    "purple": "#7e3bc4", "brown": "#8b5a2b", "pink": "#f472b6", "black": "#151515", "white": "#fafafa",
    "gray": "#8a8f98",
}  # fmt: skip
SHAPES = (
    "circle", "square", "triangle", "rectangle", "star", "pentagon", "hexagon", "diamond", "oval", "cross", "heart",
    "arrow",
)  # fmt: skip
DIRECTIONAL = re.compile(r"\b(left|right|arrow|pointing|clockwise|[0-9])\b|^[0-9]$")
COLOUR_WORDS = re.compile(
    r"\b(red|orange|yellow|green|blue|purple|brown|pink|black|white|gr[ae]y|tangerine|lemon|lime|tomato|"
    r"circle|square|diamond|heart|book|strawberry|banana|peach|grapes|polar|panda|blueberries|cherries)\b"
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing to name: its plain name, other words for it, and the file names it has in icon sets."""

    name: str
    aliases: tuple[str, ...]
    keywords: tuple[str, ...]
    slugs: tuple[str, ...]
    hexcodes: tuple[str, ...]
    flip: bool
    recolour: bool


def slug(text: str) -> str:
    """File-name form used by icon sets: ``"Fire engine" -> "fire-engine"``."""
    text = text.lower().replace("&", "and").replace("’", "").replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def plain_name(label: str, subgroup: str) -> str:
    """Everyday English for a CLDR name."""
    name = label.replace("“", "").replace("”", "")
    if name.startswith("keycap: "):
        return name.removeprefix("keycap: ")
    if name.startswith("flag: "):
        name = name.removeprefix("flag: ")
    lowered = name.lower()
    if lowered in PLAIN:
        return PLAIN[lowered]
    if subgroup in FACES and lowered.endswith(" face"):
        return lowered.removesuffix(" face")
    return lowered


def load_concepts(packages: Path) -> list[Concept]:
    """Concepts from the npm package ``emojibase-data``; entries that share a plain name are merged."""
    (archive,) = packages.glob("emojibase-data-[0-9]*.tgz")
    with tarfile.open(archive) as tar:
        entries = json.load(tar.extractfile("package/en/data.json"))
        subgroups = json.load(tar.extractfile("package/meta/groups.json"))["subgroups"]
        shortcodes = [json.load(tar.extractfile(f"package/en/shortcodes/{n}.json")) for n in ("github", "iamcal")]
    merged: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        subgroup = subgroups.get(str(entry.get("subgroup")), "")
        label = entry["label"]
        if not subgroup or subgroup in SKIPPED_SUBGROUPS or SKIPPED_NAMES.search(label):
            continue
        name = plain_name(label, subgroup)
        codes: list[str] = []
        for table in shortcodes:
            found = table.get(entry["hexcode"], [])
            codes += [found] if isinstance(found, str) else found
        words = [c.replace("_", " ").replace("-", " ") for c in codes if re.fullmatch(r"[a-z_\-]{3,}", c)]
        record = merged.setdefault(name, {"aliases": [], "keywords": [], "slugs": [], "hexcodes": []})
        if label.lower() != name and not label.startswith("keycap"):
            record["aliases"].append(label.lower())
        record["aliases"] += words
        record["keywords"] += [t for t in entry.get("tags", []) if re.fullmatch(r"[a-z][a-z \-]{2,24}", t)]
        record["slugs"] += [slug(label)]
        record["hexcodes"].append(entry["hexcode"].lower().replace("-fe0f", ""))
    names = set(merged)
    concepts = []
    for name, record in merged.items():
        # A word that is another concept's own name would teach the wrong picture for it.
        aliases = tuple(dict.fromkeys(a for a in record["aliases"] if a not in names))
        keywords = tuple(dict.fromkeys(k for k in record["keywords"] if k not in names and k not in aliases))
        concepts.append(
            Concept(
                name=name,
                aliases=aliases,
                keywords=keywords,
                slugs=tuple(dict.fromkeys([slug(name), *record["slugs"]])),
                hexcodes=tuple(dict.fromkeys(record["hexcodes"])),
                flip=not DIRECTIONAL.search(name),
                recolour=not COLOUR_WORDS.search(name),
            )
        )
    return concepts
