"""Loading and pictures, shared by gen_pipelines, gen_lora and gen_image."""

import json
import os
import warnings

import numpy as np
import torch
import common  # noqa: F401  (one thread, offline)
import diffusers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()
F = torch.float32


def picture(w, h, seed):
    """smooth colour waves with a little noise, uint8 HWC"""
    r = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    ch = []
    for _ in range(3):
        a, b, p = r.uniform(0.5, 3, 2).tolist() + [r.uniform(0, 6.28)]
        ch.append(127.5 + 100 * np.sin(a * x / w * 6.28 + b * y / h * 6.28 + p) + r.normal(0, 12, (h, w)))
    return np.clip(np.stack(ch, -1), 0, 255).astype(np.uint8)


def maskpic(w, h, kind):
    y, x = np.mgrid[0:h, 0:w]
    if kind == "box":
        m = ((x > w * 0.3) & (x < w * 0.8) & (y > h * 0.2) & (y < h * 0.7)) * 255
    elif kind == "disc":
        m = (((x - w / 2) ** 2 + (y - h / 2) ** 2) < (min(w, h) / 3) ** 2) * 255
    else:  # gray ramp: binarised at 0.5 by the pipelines
        m = x * 255 // max(w - 1, 1)
    return m.astype(np.uint8)


def load(d):
    idx = json.load(open(f"{d}/model_index.json"))
    p = {}
    p["text_encoder"] = CLIPTextModel.from_pretrained(f"{d}/text_encoder", torch_dtype=F)
    if "text_encoder_2" in idx:
        p["text_encoder_2"] = CLIPTextModelWithProjection.from_pretrained(f"{d}/text_encoder_2", torch_dtype=F)
    p["unet"] = UNet2DConditionModel.from_pretrained(f"{d}/unet", torch_dtype=F)
    p["vae"] = AutoencoderKL.from_pretrained(f"{d}/vae", torch_dtype=F)
    for m in p.values():
        m.eval()
    p["scheduler"] = getattr(diffusers, idx["scheduler"][1]).from_pretrained(f"{d}/scheduler")
    return idx, p


def toks(d, tokdir):
    o = {}
    for n in ("tokenizer", "tokenizer_2"):
        if os.path.isdir(f"{d}/{n}"):
            pad = json.load(open(f"{d}/{n}/tokenizer_config.json"))["pad_token"]
            o[n] = CLIPTokenizer(
                f"{tokdir}/vocab.json",
                f"{tokdir}/merges.txt",
                pad_token=pad,
                bos_token="<|startoftext|>",
                eos_token="<|endoftext|>",
                unk_token="<|endoftext|>",
                model_max_length=77,
            )
    return o
