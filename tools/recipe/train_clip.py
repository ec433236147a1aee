"""Train a small CLIPModel from scratch.

usage: train_clip.py DATA PACKAGES OUT SECONDS [THREADS]

Contrastive loss with several positives per row (a caption that leaves style or colour out matches every image
that agrees with what it does say), plus auxiliary object / style / colour heads that are thrown away afterwards.
"""

import json
import math
import os
import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

from muon import Muon, split
from data import COLOUR_LIST, HEXES, STYLE_NAMES, caption, general_words

data, root, out, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
torch.set_num_threads(int(sys.argv[5]) if len(sys.argv) > 5 else 1)
torch.manual_seed(0)
tok = CLIPTokenizerFast.from_pretrained(f"{data}/tokenizer")
images = np.load(f"{data}/images.npy", mmap_mode="r")
combos = np.load(f"{data}/combos.npy").astype(np.int64)
n_train = len(images) - 500
words = general_words(root)
MEAN, STD = 0.5, 0.5
W = 192
cfg = CLIPConfig(
    text_config=dict(
        vocab_size=49408,
        hidden_size=W,
        intermediate_size=4 * W,
        num_hidden_layers=5,
        num_attention_heads=6,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=W,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    ),
    vision_config=dict(
        hidden_size=W,
        intermediate_size=3 * W,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=64,
        patch_size=8,
        hidden_act="quick_gelu",
        projection_dim=W,
    ),
    projection_dim=W,
)
model = CLIPModel(cfg)
heads = torch.nn.ModuleDict(
    {k: torch.nn.Linear(W, n) for k, n in (("o", len(HEXES)), ("s", len(STYLE_NAMES)), ("c", len(COLOUR_LIST)))}
)
print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
if os.path.exists(f"{out}/clip/model.safetensors"):
    model.load_state_dict(CLIPModel.from_pretrained(f"{out}/clip").state_dict())
    print("resumed", flush=True)
mats, others = split(model)
opts = [(Muon(mats), 1.5e-3), (torch.optim.Adam(others + list(heads.parameters()), betas=(0.9, 0.98)), 1.2e-3)]
BATCH = 128


def pixels(idx):
    x = torch.from_numpy(np.ascontiguousarray(images[idx])).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / STD


def tokens(texts):
    return tok(texts, padding=True, truncation=True, return_tensors="pt").input_ids


def encode(texts):
    with torch.autocast("cpu", torch.bfloat16):
        return F.normalize(model.get_text_features(input_ids=tokens(texts)).float(), dim=-1)


def evaluate():
    model.eval()
    r = random.Random(0)
    with torch.no_grad():
        idx = np.arange(n_train, n_train + 256)
        with torch.autocast("cpu", torch.bfloat16):
            im = F.normalize(model.get_image_features(pixel_values=pixels(idx)).float(), dim=-1)
        t = encode([caption(o, None, None, r, plain=True) for o in range(len(HEXES))])
        acc = ((im @ t.T).argmax(1).numpy() == combos[idx, 0]).mean()
        cap = encode([caption(o, s, c, r, plain=True) for o, s, c in combos[idx]])
        best = (cap @ im.T).argmax(1).numpy()
        r1 = (combos[idx][best] == combos[idx]).all(1).mean()
    model.train()
    return acc, r1


rng, nrng = random.Random(3), np.random.default_rng(3)
t0, step = time.process_time(), 0
while (el := time.process_time() - t0) < seconds:
    fr = el / seconds
    lr = min(1, (step + 1) / 30) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fr)))
    for op, peak in opts:
        op.param_groups[0]["lr"] = peak * lr
    idx = nrng.integers(0, n_train, BATCH)
    cb = combos[idx]
    say_s, say_c = nrng.random(BATCH) < 0.7, nrng.random(BATCH) < 0.85
    texts = [
        caption(o, s if a else None, c if b else None, rng, filler=words) for (o, s, c), a, b in zip(cb, say_s, say_c)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        ti = model.get_text_features(input_ids=tokens(texts))
        im = model.get_image_features(pixel_values=pixels(idx))
    ti, im = ti.float(), im.float()
    tn, vn = F.normalize(ti, dim=-1), F.normalize(im, dim=-1)
    logits = tn @ vn.T * model.logit_scale.exp().clamp(max=100)
    o, s, c = (torch.from_numpy(cb[:, i]) for i in range(3))
    ss, sc = torch.from_numpy(say_s), torch.from_numpy(say_c)
    pos = (o[:, None] == o) & ((s[:, None] == s) | ~ss[:, None]) & ((c[:, None] == c) | ~sc[:, None])
    pos = pos.float()
    l_t = -(pos / pos.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    l_i = -(pos / pos.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    aux = F.cross_entropy(heads["o"](im), o) + F.cross_entropy(heads["s"](im), s) + F.cross_entropy(heads["c"](im), c)
    aux = aux + F.cross_entropy(heads["o"](ti), o)
    if ss.any():
        aux = aux + F.cross_entropy(heads["s"](ti[ss]), s[ss])
    if sc.any():
        aux = aux + F.cross_entropy(heads["c"](ti[sc]), c[sc])
    loss = (l_t + l_i) / 2 + 0.3 * aux
    model.zero_grad()
    heads.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(others, 1.0)
    for op, _ in opts:
        op.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    step += 1
    if step % 50 == 0:
        a, r1 = evaluate()
        print(
            f"{el:.0f}s step {step} con {((l_t + l_i) / 2).item():.3f} aux {aux.item():.3f} zero-shot {a:.3f} R@1 {r1:.3f} scale {model.logit_scale.exp().item():.1f}",
            flush=True,
        )
        model.save_pretrained(f"{out}/clip")

a, r1 = evaluate()
model.save_pretrained(f"{out}/clip")
json.dump(
    {"steps": step, "seconds": time.process_time() - t0, "zero_shot": float(a), "r1": float(r1)},
    open(f"{out}/clip_train.json", "w"),
)
print("done", flush=True)
