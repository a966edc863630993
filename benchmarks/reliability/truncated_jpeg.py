"""A picture that is none, or not whole, among good ones in one call: ``lmdeploy.pipeline`` and ``fastinfer``.

    python benchmarks/random_vision_model.py InternVL3-1B --like training/embedded --out /dev/shm/internvl3-1b
    python -m benchmarks.reliability.truncated_jpeg --model /dev/shm/internvl3-1b

Each fault is tried by each side in a process of its own: eight pictures in one call, the bad one in the middle. Said is
what the call raised, which pictures were answered, and how many of the good ones as without the bad one, which random
weights in another batch can change too. Needs an NVIDIA GPU with LMDeploy; ``--sides fastinfer --preset embedded`` runs
anywhere.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..common import save
from . import trying

_PICTURES, _BAD_AT = 8, 4
_QUESTION = "What is this? Answer with its name only."
LABELS = ["cat", "dog", "car", "tree", "house", "fish", "key", "star"]
SIDES = ("lmdeploy", "fastinfer")
FAULTS = ("truncated JPEG", "no picture", "no such file")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.truncated_jpeg", description=__doc__)
    parser.add_argument("--model", help="a checkpoint's folder in Hugging Face's form; else the preset's own")
    parser.add_argument("--preset", default="prod-exact", help="fastinfer's")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--limit", type=float, default=240, help="seconds of a try before it counts as hanging")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reliability_truncated_jpeg.json"))
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def jpegs() -> list[bytes]:
    """Pictures of 448 px, no two alike, noisy enough that half of the bytes is not nearly all of the picture."""
    import numpy as np
    from PIL import Image

    made = []
    for number in range(_PICTURES):
        noise = np.random.default_rng(number).integers(0, 255, (56, 56, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((448, 448)).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def spoilt(whole: bytes, fault: str) -> bytes | str:
    """What stands in place of a good picture."""
    if fault == "truncated JPEG":
        return whole[: len(whole) // 2]
    return b"this is no picture" * 20 if fault == "no picture" else "/no/such/picture.jpg"


def with_lmdeploy(what: dict[str, Any]) -> dict[str, Any]:
    """As its documentation has it: pictures by URL in OpenAI's messages, which it reads by itself."""
    import lmdeploy
    from lmdeploy import GenerationConfig, TurbomindEngineConfig

    pipe = lmdeploy.pipeline(
        what["model"],
        backend_config=TurbomindEngineConfig(session_len=1024, max_batch_size=32, cache_max_entry_count=0.2),
        log_level="ERROR",
    )
    if pipe.async_engine.backend != "turbomind":
        raise RuntimeError(f"lmdeploy.pipeline chose the engine {pipe.async_engine.backend}")
    generation = GenerationConfig(max_new_tokens=8, do_sample=False)

    def message(image: bytes | str) -> list[dict[str, Any]]:
        url = image if isinstance(image, str) else "data:image/jpeg;base64," + base64.b64encode(image).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": _QUESTION}]
        return [{"role": "user", "content": content}]

    def ask(images: list[bytes | str]) -> list[str]:
        return [f"{reply.finish_reason}: {reply.text}" for reply in pipe([message(i) for i in images], generation)]

    def after() -> str:
        return ask([jpegs()[0]])[0]

    return attempt(ask, after, what["fault"])


def with_fastinfer(what: dict[str, Any]) -> dict[str, Any]:
    """``classify_many(errors="return")``."""
    if what["preset"] == "embedded":
        # Before numpy: a build with a C++ library of its own crashes loading a model otherwise.
        import llama_cpp  # noqa: F401

    import fastinfer

    model = {} if what["model"] is None else {"model": what["model"]}
    with fastinfer.classifier(what["preset"], labels=LABELS, **model) as classifier:

        def ask(images: list[bytes | str]) -> list[str]:
            results = classifier.classify_many(images, errors="return")
            return [f"{r.label}" if r.error is None else f"error {type(r.error).__name__}: {r.error}" for r in results]

        def after() -> str:
            return ask([jpegs()[0]])[0]

        return attempt(ask, after, what["fault"])


def attempt(ask: Any, after: Any, fault: str) -> dict[str, Any]:
    """The pictures with a bad one among them, in one call; before and after it good ones alone."""
    good: list[bytes | str] = [*jpegs()]
    alone = ask([one for at, one in enumerate(good) if at != _BAD_AT])
    alone.insert(_BAD_AT, "")
    mixed = [*good]
    mixed[_BAD_AT] = spoilt(jpegs()[_BAD_AT], fault)
    raised, answers = None, []
    begun = time.perf_counter()
    try:
        answers = ask(mixed)
    except Exception as error:  # noqa: BLE001  what is raised is what is asked
        raised = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begun
    siblings = [at for at in range(_PICTURES) if at != _BAD_AT]
    found = {
        "call_raised": raised,
        "answers": len(answers),
        "bad_picture": answers[_BAD_AT] if len(answers) == _PICTURES else None,
        "siblings_answered": sum(at < len(answers) and not answers[at].startswith("error") for at in siblings),
        "siblings_as_alone": sum(at < len(answers) and answers[at] == alone[at] for at in siblings),
        "siblings": len(siblings),
        "seconds": round(seconds, 2),
    }
    # Whether it can still be used.
    try:
        found["usable_afterwards"] = bool(after())
    except Exception as error:  # noqa: BLE001
        found["usable_afterwards"] = f"{type(error).__name__}: {error}"
    whole = found["siblings_answered"] == found["siblings"]
    named = found["bad_picture"] is not None and str(found["bad_picture"]).startswith("error")
    if raised is not None:
        outcome = "the call raises, and no picture is answered"
    elif not whole:
        outcome = "good pictures fail too"
    else:
        outcome = "the bad picture alone fails" if named else "the bad picture is answered like a good one"
    return {"outcome": outcome, **found}


def main() -> None:
    a = arguments()
    if a.child is not None:
        trying.tell({"lmdeploy": with_lmdeploy, "fastinfer": with_fastinfer}[a.child["side"]](a.child))
        return
    figures: dict[str, Any] = {"model": a.model and Path(a.model).name, "preset": a.preset, "pictures": _PICTURES}
    for side in a.sides:
        for fault in FAULTS:
            what = {"side": side, "fault": fault, "model": a.model, "preset": a.preset}
            one = trying.run(__spec__.name, what, a.limit)
            said = {} if one.found else {"said": one.said}
            figures.setdefault(side, {})[fault] = {"outcome": one.outcome, **(one.found or {}), **said}
            print(f"{side}, {fault}: {one.outcome}", file=sys.stderr, flush=True)
    save(
        "reliability_truncated_jpeg",
        trying.command("truncated_jpeg"),
        figures,
        a.output,
    )


if __name__ == "__main__":
    main()
