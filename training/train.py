"""Trains the embedded model from scratch on one GPU.

    python training/train.py --packages .work/npm --out .work/model --minutes 8

``--packages`` holds the npm packages that ``training/README.md`` lists. Prints the loss while it trains and ends
with the accuracy on held-out digits and on a style of pictograms it never saw, written to ``OUT/accuracy.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from architecture import (
    IMAGE_SIZE,
    IMAGE_TOKENS,
    OTHER_QUESTIONS,
    QUESTION,
    build_model,
    prompt_ids,
    save,
    train_tokenizer,
)
from augment import augment, normalise
from concepts import COLOURS, EVERYDAY, SHAPES, Concept
from pictures import ICON_SETS, build, digit_picture, handwritten_digits

INK_STYLES = {*ICON_SETS, "fluent-emoji-high-contrast", "emojione-monotone", "printed digits", "handwritten digits"}
LONGEST_ANSWER = 12
END = 2


def article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def answers(concept: Concept, common: Counter[str]) -> list[tuple[str, float]]:
    """Texts that answer "What is this?" for a concept, with the share of each while training.

    Keywords count the less the more concepts share them (``common``): "animal" fits every animal and names none.
    """
    name = concept.name
    shares: Counter[str] = Counter()
    shares[name] += 0.78
    for word in concept.aliases:
        shares[word] += 0.12 / len(concept.aliases)
    rarity = {word: 1 / common[word] for word in concept.keywords}
    for word, weight in rarity.items():
        shares[word] += 0.05 * weight / sum(rarity.values())
    for share, text in ((0.03, name.capitalize()), (0.01, name.title()), (0.01, name.upper()), (0.01, article(name))):
        shares[text] += share
    return list(shares.items())


def answer_tables(concepts: list[Concept], tokenizer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids (texts, LONGEST_ANSWER), and per concept the rows of its texts and their shares."""
    ids, rows, shares = [], [], []
    common = Counter(word for concept in concepts for word in concept.keywords)
    for concept in concepts:
        mine, weight = [], []
        for text, share in answers(concept, common):
            tokens = [*tokenizer.encode(text).ids, END]
            if len(tokens) <= LONGEST_ANSWER:
                mine.append(len(ids))
                weight.append(share)
                ids.append(tokens + [-100] * (LONGEST_ANSWER - len(tokens)))
        rows.append(mine)
        shares.append(weight)
    widest = max(map(len, rows))
    row_table = torch.zeros(len(rows), widest, dtype=torch.long)
    share_table = torch.zeros(len(rows), widest)
    for i, (mine, weight) in enumerate(zip(rows, shares, strict=True)):
        row_table[i, : len(mine)] = torch.tensor(mine)
        share_table[i, : len(mine)] = torch.tensor(weight)
    return torch.tensor(ids), row_table, share_table


def picture_weights(concept: list[int], style: list[str], concepts: list[Concept]) -> torch.Tensor:
    """Sampling weights: concepts alike, styles alike within a concept, and a share for digits and shapes."""
    per_style = Counter(zip(concept, style, strict=True))
    styles_of = Counter(c for c, _ in per_style)
    shapes = {f"{colour} {shape}" for colour in COLOURS for shape in SHAPES}
    weights = []
    for c, s in zip(concept, style, strict=True):
        name = concepts[c].name
        boost = 10.0 if name.isdigit() and len(name) == 1 else 0.8 if name in shapes else 1.0
        if s == "handwritten digits":
            boost *= 3
        weights.append(boost * min(styles_of[c], 4) / styles_of[c] / per_style[c, s])
    return torch.tensor(weights)


class Namer:
    """The model with its prompt: images in, scores of answer tokens out."""

    def __init__(self, model, tokenizer, device: torch.device, compiled: bool) -> None:
        self.model, self.device = model, device
        self.prompts = {
            question: [torch.tensor(ids, device=device) for ids in prompt_ids(tokenizer, question)]
            for question in (QUESTION, *OTHER_QUESTIONS)
        }
        self.vision = torch.compile(self._features) if compiled else self._features
        self.answer = torch.compile(self.logits) if compiled else self.logits

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.model.get_image_features(pixel_values=pixels)
        features = getattr(features, "pooler_output", features)
        if isinstance(features, (list, tuple)):
            features = torch.stack(list(features))
        return features.reshape(len(pixels), IMAGE_TOKENS, -1)

    def logits(self, features: torch.Tensor, answer: torch.Tensor, question: str = QUESTION) -> torch.Tensor:
        """Logits (n, LONGEST_ANSWER, vocabulary) of each answer token, teacher-forced; padding is -100."""
        n = len(features)
        before, after = self.prompts[question]
        embed = self.model.model.language_model.embed_tokens
        text = torch.cat([after.expand(n, -1), answer[:, :-1].clamp_min(0)], 1)
        inputs = torch.cat([embed(before).expand(n, -1, -1), features, embed(text)], 1)
        hidden = self.model.model.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return self.model.lm_head(hidden[:, -answer.shape[1] :])

    def log_probability(self, features: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        """Log-probability of each answer (n,), its end token included."""
        logits = self.logits(features, answer).float()
        loss = F.cross_entropy(logits.transpose(1, 2), answer, ignore_index=-100, reduction="none")
        return -loss.sum(1)


def on_white(rgba: np.ndarray) -> torch.Tensor:
    """Pictures (n, h, w, 4) on white at the model's size, normalised."""
    x = torch.from_numpy(rgba).permute(0, 3, 1, 2).float() / 255
    x = x[:, :3] * x[:, 3:] + (1 - x[:, 3:])
    x = F.interpolate(x, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return normalise((x * 255).round() / 255)


@torch.no_grad()
def closed_set(namer: Namer, pixels: torch.Tensor, labels: list[str], tokenizer) -> torch.Tensor:
    """Index of the likeliest label for each image."""
    rows = [[*tokenizer.encode(t).ids, END] for t in labels]
    longest = max(map(len, rows))
    table = torch.tensor([r + [-100] * (longest - len(r)) for r in rows], device=namer.device)
    best = []
    for batch in pixels.split(64):
        features = namer._features(batch.to(namer.device))
        n = len(features)
        scores = namer.log_probability(features.repeat_interleave(len(labels), 0), table.repeat(n, 1))
        best.append(scores.view(n, -1).argmax(1).cpu())
    return torch.cat(best)


@torch.no_grad()
def greedy(namer: Namer, pixels: torch.Tensor, tokenizer) -> list[str]:
    """The name each image gets when the model may say anything."""
    texts = []
    for batch in pixels.split(256):
        features = namer._features(batch.to(namer.device))
        answer = torch.zeros(len(features), LONGEST_ANSWER, dtype=torch.long, device=namer.device)
        for i in range(LONGEST_ANSWER):
            answer[:, i] = namer.logits(features, answer)[:, i].argmax(-1)
        for row in answer.tolist():
            texts.append(tokenizer.decode(row[: row.index(END)] if END in row else row))
    return texts


def evaluate(namer: Namer, tokenizer, concepts: list[Concept], unseen: list[tuple[int, np.ndarray]]) -> dict:
    """Accuracy on held-out handwritten digits and on the unseen style."""
    _, inks, _, truth = handwritten_digits()
    digits = on_white(np.stack([digit_picture(ink) for ink in inks]))
    found = closed_set(namer, digits, [str(d) for d in range(10)], tokenizer)
    first: dict[str, np.ndarray] = {}
    for concept, picture in unseen:
        first.setdefault(concepts[concept].name, picture)
    named = closed_set(namer, on_white(np.stack([first[n] for n in EVERYDAY])), EVERYDAY, tokenizer)
    wrong = [(EVERYDAY[i], EVERYDAY[j]) for i, j in enumerate(named.tolist()) if i != j]
    said = greedy(namer, on_white(np.stack([p for _, p in unseen])), tokenizer)
    accepted = [{concepts[c].name, *concepts[c].aliases} for c, _ in unseen]
    return {
        "digits_top1": float((found.numpy() == truth).mean()),
        "everyday_top1": 1 - len(wrong) / len(EVERYDAY),
        "everyday_confusions": wrong,
        "open_set_exact": float(np.mean([s in a for s, a in zip(said, accepted, strict=True)])),
        "open_set_pictures": len(said),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")

    started = time.monotonic()
    concepts, pictures, unseen = build(options.packages, os.cpu_count() or 2)
    print(f"{len(concepts)} concepts, {len(pictures.rgba)} pictures, {time.monotonic() - started:.0f} s", flush=True)
    lines = [QUESTION, *OTHER_QUESTIONS, "user", "assistant"] * 500
    for concept in concepts:
        # Often enough that every word of a name becomes one token: a label of one token costs no decoding.
        lines += [concept.name, f"a {concept.name}"] * 200 + [*concept.aliases, *concept.keywords] * 2
        lines += [concept.name.capitalize(), concept.name.title()]
    tokenizer = train_tokenizer(lines)
    model = build_model(tokenizer.get_vocab_size()).to(device)
    namer = Namer(model, tokenizer, device, compiled=options.compile)
    make_images = torch.compile(augment, dynamic=False) if options.compile else augment
    total = sum(p.numel() for p in model.parameters())
    print(f"{total / 1e6:.2f} M parameters, {tokenizer.get_vocab_size()} tokens", flush=True)

    bank = torch.from_numpy(np.stack(pictures.rgba)).to(device)
    concept_of = torch.tensor(pictures.concept, device=device)
    ink = torch.tensor([s in INK_STYLES for s in pictures.style], device=device)
    flip = torch.tensor([concepts[c].flip for c in pictures.concept], device=device)
    recolour = [concepts[c].recolour or s in INK_STYLES for c, s in zip(pictures.concept, pictures.style, strict=True)]
    hue_free = torch.tensor(recolour, device=device)
    weights = picture_weights(pictures.concept, pictures.style, concepts).to(device)
    texts, rows, shares = (t.to(device) for t in answer_tables(concepts, tokenizer))

    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.08}, {"params": rest, "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.98), fused=device.type == "cuda",
    )  # fmt: skip
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    questions = [QUESTION] * 12 + list(OTHER_QUESTIONS)
    chooser = np.random.default_rng(0)

    model.train()
    for question in (QUESTION, *OTHER_QUESTIONS) if options.compile else ():
        # Compilation happens here, before the clock that the learning rate follows starts.
        some = torch.arange(options.batch, device=device) % len(bank)
        pixels = make_images(bank[some], IMAGE_SIZE, flip[some], hue_free[some], ink[some])
        with torch.autocast(device.type, torch.bfloat16):
            warm = namer.answer(namer.vision(pixels), texts[some % len(texts)], question)
        warm.float().mean().backward()
        optimiser.zero_grad(set_to_none=True)
    print(f"compiled after {time.monotonic() - started:.0f} s", flush=True)
    began, step, running, images = time.monotonic(), 0, None, 0
    while (spent := (time.monotonic() - began) / (options.minutes * 60)) < 1:
        rate = options.rate * min(1.0, step / 300) * 0.5 * (1 + math.cos(math.pi * spent))
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = torch.multinomial(weights, options.batch, replacement=True)
        c = concept_of[chosen]
        row = rows[c, torch.multinomial(shares[c], 1).squeeze(1)]
        answer = texts[row]
        pixels = make_images(bank[chosen], IMAGE_SIZE, flip[chosen], hue_free[chosen], ink[chosen])
        with torch.autocast(device.type, torch.bfloat16):
            features = namer.vision(pixels)
            logits = namer.answer(features, answer, questions[chooser.integers(len(questions))])
        loss = F.cross_entropy(logits.float().transpose(1, 2), answer, ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(0.9995, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in model.parameters()], 1 - keep)
        step += 1
        images += options.batch
        if step % 200 == 0:
            value = loss.item()
            running = value if running is None else 0.7 * running + 0.3 * value
            seconds = time.monotonic() - began
            print(f"{seconds:6.0f} s  step {step:6d}  loss {running:.3f}  {images / seconds:7.0f} images/s", flush=True)

    model.load_state_dict(average, strict=False)
    model.to(torch.bfloat16)
    save(model, tokenizer, options.out)
    # Accuracy of the rounded weights, computed in float32: what ships is what is measured.
    model.to(torch.float32).eval()
    accuracy = evaluate(namer, tokenizer, concepts, unseen)
    accuracy |= {"parameters": total, "steps": step, "images": images, "minutes": options.minutes}
    (options.out / "accuracy.json").write_text(json.dumps(accuracy, indent=2) + "\n")
    (options.out / "concepts.txt").write_text("\n".join(sorted(c.name for c in concepts)) + "\n")
    print(json.dumps(accuracy, indent=1), flush=True)


if __name__ == "__main__":
    main()
