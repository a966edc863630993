"""Whether answers agree: TurboMind beside llama.cpp, and the KV cache in 8 and 4 bits beside 16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..chat.child import Child
from ..chat.figures import Figures, compare, percentile
from ..common import ROOT
from .bench import OURS, Bench, aim, within_rounds
from .labels import thirty
from .pictures import variations
from .speed import SPEED, one_round
from .work import Done, Work

_SAMPLES = ROOT / "src/fastinfer/samples"
#: What the embedded model was trained with.
_QUESTION = "What is this?"


def differences(one: Done, other: Done) -> dict[str, Any]:
    """How two contenders' answers for the same pictures differ, over all pictures and labels.

    ``log_probability`` compares the natural logarithms of the labels' probabilities among all answers, the label set's
    share times its mass: also a model whose probabilities are all small tells there what the cache costs.
    """
    if one.errors or other.errors or one.images != other.images:
        raise RuntimeError(f"not all pictures were answered: {[*one.errors, *other.errors][:3]}")
    shares = _distances(one.probabilities, other.probabilities)
    logs = _distances(_logarithms(one), _logarithms(other))
    same = [a == b for a, b in zip(one.labels, other.labels, strict=True)]
    # Where the two likeliest labels are this close, another rounding may turn them.
    clear = [equal for equal, row in zip(same, one.probabilities, strict=True) if _lead(row) > 0.05]
    return {
        "pictures": one.images,
        "labels": len(one.probabilities[0]),
        "same_label": round(sum(same) / len(same), 4),
        "same_label_where_it_leads_by_0.05": round(sum(clear) / len(clear), 4) if clear else None,
        "of_these": len(clear),
        "probability_largest": round(max(shares), 6),
        "probability_p99": round(percentile(shares, 0.99), 6),
        "log_probability_largest": round(max(logs), 5),
        "log_probability_p99": round(percentile(logs, 0.99), 5),
        "log_probability_p50": round(percentile(logs, 0.5), 5),
    }


def _lead(row: Sequence[float]) -> float:
    second, first = sorted(row)[-2:]
    return first - second


def _logarithms(done: Done) -> list[list[float]]:
    return [
        [math.log(max(share * mass, 1e-300)) for share in row]
        for row, mass in zip(done.probabilities, done.label_mass, strict=True)
    ]


def _distances(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[float]:
    return [abs(x - y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True)]


def _answers(bench: Bench, name: str, side: Child, images: list[bytes]) -> Done:
    done = bench.ask(name, side, Work(images, keep=True))
    if done is None:
        raise RuntimeError(f"{name} did not answer")
    return done


def parity(bench: Bench) -> None:
    """The embedded model on TurboMind and on llama.cpp on the CPU: pictures, question and labels the same."""
    chosen = thirty()
    images = variations(_SAMPLES, bench.images)
    openers = {
        "turbomind": lambda: bench.ours(labels=chosen, prompt=_QUESTION),
        "turbomind_exact": lambda: bench.ours("prod-exact", labels=chosen, prompt=_QUESTION),
        "turbomind_bfloat16": lambda: bench.ours("prod-exact", labels=chosen, prompt=_QUESTION, dtype="bfloat16"),
        "llama_cpp": lambda: bench.ours("embedded", labels=chosen),
    }
    if not bench.on_gpu:
        openers = {"llama_cpp": openers["llama_cpp"], "llama_cpp_again": openers["llama_cpp"]}
    with bench.open(openers) as sides:
        answers = {name: _answers(bench, name, side, images) for name, side in sides.items()}
    found = {
        f"{name} and llama_cpp": differences(done, answers["llama_cpp"])
        for name, done in answers.items()
        if name != "llama_cpp"
    }
    bench.keep({"labels": list(chosen), "agreement": found})
    aims = []
    for name, how in (("turbomind", "prod"), ("turbomind_exact", "prod-exact")):
        if (one := found.get(f"{name} and llama_cpp")) is not None:
            same, largest = one["same_label"], one["probability_largest"]
            aims.append(aim(f"share of equal labels, {how} and llama.cpp", 0.99, same))
            aims.append(aim(f"largest difference of a probability, {how} and llama.cpp", 0.02, largest, at_most=True))
    bench.keep({"aims": aims})


def quant(bench: Bench) -> None:
    """What int8 and int4 of the KV cache do to speed and answers, beside 16 bits.

    Speed and log-probabilities on the model of the shape measured; labels on the trained one, whose answers mean
    something. A preset's 4 becomes 8 where the attention heads are 64 wide, as the trained one's are.
    """
    rounds: list[dict[str, Figures]] = []
    images = bench.pictures(bench.images)

    with bench.open(_openers(bench, OURS)) as sides:
        for _ in range(bench.rounds):
            rounds.append(one_round(bench, sides))
            over = {name: within_rounds(rounds, name, "ours_16_bit", SPEED) for name in sides}
            bench.keep({**compare(rounds, []), "speed_over_16_bit": over})
        answers = {name: _answers(bench, name, side, images) for name, side in sides.items()}
        repeated = _answers(bench, "ours_16_bit", sides["ours_16_bit"], images)
    # What the same settings differ by, with other neighbours in a pass or a remembered prompt: less means nothing.
    again = differences(repeated, answers["ours_16_bit"])
    bench.keep({"differences_from_16_bit": {**_from_16_bit(answers), "ours_16_bit_again": again}})
    if bench.trained is None:
        return
    drawn = variations(_SAMPLES, bench.images)
    with bench.open(_openers(bench, "trained", model=bench.trained, labels=thirty(), prompt=_QUESTION)) as sides:
        answers = {name: _answers(bench, name, side, drawn) for name, side in sides.items()}
    bench.keep({"trained_model_differences_from_16_bit": _from_16_bit(answers)})


def _openers(bench: Bench, name: str, **changes: Any) -> dict[str, Any]:
    def opener(policy: int) -> Any:
        return lambda: bench.ours(quant_policy=policy, **changes)

    return {f"{name}_{bits}_bit": opener(policy) for policy, bits in ((0, 16), (8, 8), (4, 4))}


def _from_16_bit(answers: dict[str, Done]) -> dict[str, Any]:
    (plain,) = (done for name, done in answers.items() if name.endswith("_16_bit"))
    return {name: differences(done, plain) for name, done in answers.items() if done is not plain}
