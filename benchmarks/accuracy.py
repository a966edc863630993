"""How often the embedded model is right: handwritten digits, and everyday pictograms in a style it never saw.

python benchmarks/accuracy.py
"""

from __future__ import annotations

import math
from collections import Counter

from common import EVERYDAY, digit_pictures, everyday_pictures, save

import fastinfer


def interval(right: int, total: int) -> list[float]:
    """Wilson's 95% interval of a share."""
    z, share = 1.96, right / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return [round((centre - half) / scale, 3), round((centre + half) / scale, 3)]


def main() -> None:
    digits, truth = digit_pictures()
    with fastinfer.classifier(labels=[str(d) for d in range(10)]) as classifier:
        found = [r.label for r in classifier.classify_many(digits)]
        right = sum(a == b for a, b in zip(found, truth, strict=True))
        pictures = everyday_pictures(256)
        classifier.labels = EVERYDAY
        named = list(classifier.classify_many(pictures))
        classifier.labels = None
        free = [r.label for r in classifier.classify_many(pictures)]
    first = sum(r.label == name for r, name in zip(named, EVERYDAY, strict=True))
    top5 = sum(name in [label for label, _ in r.top(5)] for r, name in zip(named, EVERYDAY, strict=True))
    confusions = [
        {"picture": name, "named": r.label, "probability": round(r.confidence, 3)}
        for r, name in zip(named, EVERYDAY, strict=True)
        if r.label != name
    ]
    missed = Counter((t, str(f)) for f, t in zip(found, truth, strict=True) if f != t)
    figures = {
        "digits": {
            "pictures": len(truth),
            "labels": 10,
            "top1": round(right / len(truth), 4),
            "interval95": interval(right, len(truth)),
            "confusions": [{"digit": t, "named": f, "count": n} for (t, f), n in missed.most_common()],
        },
        "everyday_unseen_style": {
            "pictures": len(EVERYDAY),
            "labels": len(EVERYDAY),
            "top1": first / len(EVERYDAY),
            "interval95": interval(first, len(EVERYDAY)),
            "top5": top5 / len(EVERYDAY),
            "open_set_same_name": sum(a == b for a, b in zip(free, EVERYDAY, strict=True)) / len(EVERYDAY),
            "confusions": confusions,
        },
    }
    save("accuracy", "python benchmarks/accuracy.py", figures)


if __name__ == "__main__":
    main()
