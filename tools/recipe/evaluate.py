"""Measure the delivered folder.

usage: evaluate.py MODEL_DIR PACKAGES OUT.json [--clip] [--images] [--robust DIR] [--n N]
"""

import argparse
import json
import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizerFast

from attack import leaf_attack, typo
from data import COLOUR_LIST, HELD_OUT, HEXES, caption, compose, load_sprites
from generate import Generator, sheet
from objects import COLOURS, OBJECTS

ap = argparse.ArgumentParser()
ap.add_argument("model"), ap.add_argument("packages"), ap.add_argument("out")
ap.add_argument("--clip", action="store_true"), ap.add_argument("--images", action="store_true")
ap.add_argument("--prompts"), ap.add_argument("--robust"), ap.add_argument("--n", type=int, default=72)
ap.add_argument("--conditions", default="clean,typo,typo2,worst"), ap.add_argument("--cfg", type=float, default=5.0)
ap.add_argument("--samples"), ap.add_argument("--only"), ap.add_argument("--rho", type=int, default=20)
a = ap.parse_args()
torch.set_num_threads(1)
torch.manual_seed(0)
m = a.model
tok = CLIPTokenizerFast.from_pretrained(f"{m}/tokenizer")
clip = CLIPModel.from_pretrained(f"{m}/clip").float().eval()
dirs = {"standard": f"{m}/text_encoder", "robust": a.robust or f"{m}/text_encoder_robust"}
names = [a.only] if a.only else list(dirs)
enc = {k: CLIPTextModel.from_pretrained(dirs[k]).float().eval() for k in set(names) | {"standard"}}

report = {}


@torch.no_grad()
def embed(which, texts, project=True):
    out = []
    for i in range(0, len(texts), 512):
        ids = tok(texts[i : i + 512], padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids
        with torch.autocast("cpu", torch.bfloat16):
            h = enc[which](input_ids=ids).last_hidden_state.float()
        p = h[torch.arange(len(ids)), (ids == 49407).int().argmax(1)]
        out.append(clip.text_projection(p) if project else p)
    return torch.cat(out)


@torch.no_grad()
def image_features(imgs):
    x = torch.from_numpy(imgs).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.normalize(
        torch.cat([clip.get_image_features(pixel_values=x[i : i + 128]) for i in range(0, len(x), 128)]), dim=-1
    )


def worst(which, texts, k, seed=0):
    """LEAF-style attack on this encoder: drive its pooled embedding away from its own clean one."""
    target = embed(which, texts, project=False)
    score = lambda t, owner: ((embed(which, t, project=False) - target[owner]) ** 2).sum(1).tolist()
    return [t for t, _ in leaf_attack(texts, score, random.Random(seed), rho=a.rho, k=k)]


def random_typos(texts, k, seed=0):
    r = random.Random(seed)
    return [typo(t, list(range(len(t))), r, k)[0] for t in texts]


OBJECT_PROMPTS = [caption(o, None, None, random.Random(o), plain=True) for o in range(len(HEXES))]

if a.clip:
    rng = random.Random(9)
    sprites = load_sprites(a.packages)
    combos = sorted(HELD_OUT)
    images = np.stack([compose(sprites[o, s], COLOUR_LIST[c], rng) for o, s, c in combos])
    caps = [caption(o, s, c, rng, plain=rng.random() < 0.5) for o, s, c in combos]
    feats = image_features(images)
    label = torch.tensor([o for o, _, _ in combos])
    vae = AutoencoderKL.from_pretrained(f"{m}/vae").float().eval()
    with torch.no_grad():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        y = torch.cat(
            [vae.decode(vae.encode(x[i : i + 16]).latent_dist.mode()).sample for i in range(0, len(x), 16)]
        ).clamp(-1, 1)
    mse = ((x - y) ** 2).mean((1, 2, 3)) / 4
    report["vae"] = {"psnr_mean": round((-10 * torch.log10(mse)).mean().item(), 2), "images": len(images)}
    table = {}
    for which in names:
        for attack in ("clean", "typo1", "typo2", "worst1", "worst2"):
            if attack == "clean":
                cl, rt = OBJECT_PROMPTS, caps
            elif attack.startswith("typo"):
                k = int(attack[-1])
                cl, rt = random_typos(OBJECT_PROMPTS, k), random_typos(caps, k)
            else:
                k = int(attack[-1])
                cl, rt = worst(which, OBJECT_PROMPTS, k), worst(which, caps, k)
            zs = F.normalize(embed(which, cl), dim=-1)
            tx = F.normalize(embed(which, rt), dim=-1)
            ref = embed(which, caps) if which == "standard" else embed("standard", caps)
            table[f"{which}/{attack}"] = {
                "zero_shot_top1": round((feats @ zs.T).argmax(1).eq(label).float().mean().item(), 4),
                "text_to_image_r1": round((tx @ feats.T).argmax(1).eq(torch.arange(len(tx))).float().mean().item(), 4),
                "image_to_text_r1": round((feats @ tx.T).argmax(1).eq(torch.arange(len(tx))).float().mean().item(), 4),
                "cosine_to_clean_standard": round(F.cosine_similarity(embed(which, rt), ref).mean().item(), 4),
            }
            print(which, attack, table[f"{which}/{attack}"], flush=True)
    report["clip"] = table
    report["clip_setup"] = {"images": len(images), "classes": len(HEXES), "rho": a.rho}

if a.images:
    prompts = json.load(open(a.prompts or f"{m}/eval/prompts.json"))["prompts"][: a.n]
    clean = [p["prompt"] for p in prompts]
    seeds = [p["seed"] for p in prompts]
    gen = Generator(f"{m}/tokenizer", f"{m}/unet", f"{m}/vae", {k: dirs[k] for k in names})
    zs = F.normalize(embed("standard", OBJECT_PROMPTS), dim=-1)
    clean_t = F.normalize(embed("standard", clean), dim=-1)
    index = {OBJECTS[h][0]: i for i, h in enumerate(HEXES)}
    want = torch.tensor([index[p["object"]] for p in prompts])
    palette = np.array([COLOURS[c] for c in COLOUR_LIST], np.float32)
    keep, texts_used = {}, {}
    for cond in a.conditions.split(","):
        for which in names:
            texts = (
                clean if cond == "clean" else worst(which, clean, 1) if cond == "worst" else [p[cond] for p in prompts]
            )
            imgs = gen(texts, which, cfg=a.cfg, seeds=seeds)
            f = image_features(imgs)
            edge = np.concatenate([imgs[:, :3].reshape(len(imgs), -1, 3), imgs[:, -3:].reshape(len(imgs), -1, 3)], 1)
            near = ((np.median(edge, 1)[:, None] - palette) ** 2).sum(-1).argmin(1)
            keep[cond, which], texts_used[cond, which] = imgs, texts
            report.setdefault("images", {})[f"{cond}/{which}"] = {
                "clip_score": round(100 * (f * clean_t).sum(1).clamp(min=0).mean().item(), 2),
                "object_top1": round((f @ zs.T).argmax(1).eq(want).float().mean().item(), 4),
                "object_top5": round((f @ zs.T).topk(5, 1)[1].eq(want[:, None]).any(1).float().mean().item(), 4),
                "background_ok": round(
                    float(np.mean([COLOUR_LIST[n] == p["background"] for n, p in zip(near, prompts)])), 4
                ),
            }
            print(cond, which, report["images"][f"{cond}/{which}"], flush=True)
    report["image_setup"] = {"prompts": len(prompts), "steps": 25, "cfg": a.cfg, "scheduler": "DPM++ 2M, leading"}
    if a.samples:
        c = [p["prompt"] for p in prompts]
        ref = keep["clean", names[0]]
        per = 12
        sheet(
            [ref[i : i + per] for i in range(0, min(len(ref), 72), per)],
            f"{a.samples}/clean.png",
            labels=[
                [f"{p['style'] or ''} {p['object']}, {p['background']}".strip() for p in prompts[i : i + per]]
                for i in range(0, min(len(ref), 72), per)
            ],
            scale=2,
        )
        if len(names) == 2:
            for cond in ("typo", "worst"):
                if (cond, "standard") not in keep:
                    continue
                n = 12
                rows = [
                    keep["clean", "standard"][:n],
                    keep["clean", "robust"][:n],
                    keep[cond, "standard"][:n],
                    keep[cond, "robust"][:n],
                ]
                lab = [c[:n], c[:n], texts_used[cond, "standard"][:n], texts_used[cond, "robust"][:n]]
                sheet(
                    rows,
                    f"{a.samples}/ab_{cond}.png",
                    labels=lab,
                    scale=2,
                    row_names=["clean, standard", "clean, robust", f"{cond}, standard", f"{cond}, robust"],
                )
json.dump(report, open(a.out, "w"), indent=1)
