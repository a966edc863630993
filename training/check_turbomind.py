"""Runs the trained model on LMDeploy's TurboMind and compares its answers with the same weights in PyTorch, both in the
number format that config.json names.

    python training/check_turbomind.py --packages .work/npm --model .work/model --out result.json

Prints how many of the unseen style's everyday pictures get the same name from both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from architecture import IMAGE_SIZE, QUESTION
from concepts import EVERYDAY
from pictures import SIZE, everyday_pictures
from PIL import Image


def names_from_torch(model: Path, images: list[Image.Image]) -> list[str]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForImageTextToText.from_pretrained(model, dtype="auto").cuda().eval()
    config = json.loads((model / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(config[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    tokens = (IMAGE_SIZE // 14 // 2) ** 2
    text = f"<|im_start|>user\n<img>{'<IMG_CONTEXT>' * tokens}</img>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer(text)["input_ids"]]).cuda()
    names = []
    for image in images:
        pixels = (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - mean) / std
        out = network.generate(input_ids=ids, pixel_values=pixels[None].to("cuda", network.dtype), max_new_tokens=12)
        names.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return names


def names_from_turbomind(model: Path, images: list[Image.Image]) -> list[str]:
    from lmdeploy import GenerationConfig, TurbomindEngineConfig, pipeline

    engine = TurbomindEngineConfig(
        session_len=2048,
        max_batch_size=32,
        cache_max_entry_count=0.05,
        max_prefill_token_num=2048,
        enable_metrics=False,
    )
    pipe = pipeline(str(model), backend_config=engine, log_level="ERROR")
    assert pipe.async_engine.backend == "turbomind", pipe.async_engine.backend
    question = {"type": "text", "text": QUESTION}
    messages = [
        [{"role": "user", "content": [{"type": "image_data", "image_data": {"data": image}}, question]}]
        for image in images
    ]
    replies = pipe(messages, gen_config=GenerationConfig(max_new_tokens=12, do_sample=False))
    names = [r.text.strip() for r in replies]
    pipe.close()
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    labels, pictures = EVERYDAY, everyday_pictures(options.packages, SIZE)
    images = [picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC) for picture in pictures]
    torch_names = names_from_torch(options.model, images)
    turbomind_names = names_from_turbomind(options.model, images)
    same = sum(a == b for a, b in zip(torch_names, turbomind_names, strict=True))
    result = {
        "device": torch.cuda.get_device_name(),
        "pictures": len(labels),
        "same_answer": same,
        "different": [[name, a, b] for name, a, b in zip(labels, torch_names, turbomind_names, strict=True) if a != b],
        "turbomind_right": sum(a == b for a, b in zip(labels, turbomind_names, strict=True)),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
