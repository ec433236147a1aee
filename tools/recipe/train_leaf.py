"""LEAF: finetune a copy of the text encoder so that edited captions keep the embedding of the clean ones.

usage: train_leaf.py DATA PACKAGES OUT NAME SECONDS POOLED PAD TOKEN
POOLED, PAD, TOKEN weigh the squared distances of the pooled embedding, of the hidden states from the end-of-text token
on (padding), and of the hidden states of the words (each token of the edited caption against the token of the clean
caption that holds the same character).
"""

import copy
import json
import math
import random
import sys
import time

import numpy as np
import torch
from transformers import CLIPModel, CLIPTokenizerFast

from attack import leaf_attack, typo
from data import caption as plain_caption
from data import general_words, sample_caption, sample_combo
from muon import Muon, split

data, root, out, name, seconds = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])
w_pool, w_pad, w_tok = map(float, sys.argv[6:9])
torch.set_num_threads(1)
torch.manual_seed(0)
rng = random.Random(5)
tok = CLIPTokenizerFast.from_pretrained(f"{data}/tokenizer")
clip = CLIPModel.from_pretrained(f"{out}/clip").eval()
frozen = clip.text_model
model = copy.deepcopy(frozen)
for p in frozen.parameters():
    p.requires_grad_(False)
english = general_words(root)
LINK = ["the", "of", "and", "in", "a", "with", "for", "on", "to", "is", "near", "under"]
RHO, N_ATTACK, N_RANDOM, N_CLEAN, N_FULL, EVERY = 20, 16, 200, 24, 12, 3  # the search runs in every third step
EOS = 49407


def draw_caption():
    if rng.random() < 0.12:  # general text
        n = rng.randint(2, 9)
        return " ".join(rng.choice(english) if rng.random() < 0.65 else rng.choice(LINK) for _ in range(n))
    o, s, c = sample_combo(rng)
    if rng.random() < 0.6:  # short and plain
        return plain_caption(o, s if rng.random() < 0.4 else None, c if rng.random() < 0.6 else None, rng, plain=True)
    return sample_caption((o, s, c), rng, english)


def ids_of(texts, full=False):
    e = tok(
        texts,
        padding="max_length" if full else True,
        truncation=True,
        max_length=77,
        return_tensors="pt",
        return_offsets_mapping=True,
    )
    return e.input_ids, e.offset_mapping


def states(m, ids):
    with torch.autocast("cpu", torch.bfloat16):
        return m(input_ids=ids).last_hidden_state.float()


def eos_at(ids):
    return (ids == EOS).int().argmax(1)


def pooled(h, ids):
    return h[torch.arange(len(ids)), eos_at(ids)]


@torch.no_grad()
def score_against(target):
    def score(texts, owner):
        ids, _ = ids_of(texts)
        v = pooled(states(model, ids), ids)
        return ((v - target[owner]) ** 2).sum(1).tolist()

    return score


def align(ids, off, ids0, off0, srcs):
    """(rows, positions, target positions) of word tokens of the edited captions."""
    r, p, q = [], [], []
    e, e0 = eos_at(ids).tolist(), eos_at(ids0).tolist()
    for b in range(len(ids)):
        holder = {}
        for j in range(1, e0[b]):
            for c in range(int(off0[b, j, 0]), int(off0[b, j, 1])):
                holder[c] = j
        for j in range(1, e[b]):
            a, z = off[b, j].tolist()
            t = next(
                (holder[srcs[b][c]] for c in range(z - 1, a - 1, -1) if c < len(srcs[b]) and srcs[b][c] in holder), None
            )
            if t is not None:
                r.append(b), p.append(j), q.append(t)
    return torch.tensor(r), torch.tensor(p), torch.tensor(q)


mats, others = split(model)
opts = [(Muon(mats), 8e-4), (torch.optim.Adam(others, betas=(0.9, 0.98)), 2e-3)]
t0, step, log = time.process_time(), 0, []
while (el := time.process_time() - t0) < seconds:
    lr = min(1, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * el / seconds)))
    for o, peak in opts:
        o.param_groups[0]["lr"] = peak * lr
    clean = [draw_caption() for _ in range(N_ATTACK + N_RANDOM + N_CLEAN - 1)] + [""]
    ids0, off0 = ids_of(clean)
    with torch.no_grad():
        h0 = states(frozen, ids0)
        p0 = pooled(h0, ids0)
    texts, srcs = list(clean), [list(range(len(t))) for t in clean]
    search = step % EVERY == 0
    for i in range(N_ATTACK + N_RANDOM):  # searched: k=2 for a third, whose first edit is random
        k = int(rng.random() < 0.33) if i < N_ATTACK and search else rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 2))
        if k:
            texts[i], srcs[i] = typo(texts[i], srcs[i], rng, k, content=0.8)
    if search:
        worst = leaf_attack(texts[:N_ATTACK], score_against(p0[:N_ATTACK]), rng, rho=RHO, srcs=srcs[:N_ATTACK])
        for i, (t, s) in enumerate(worst):
            texts[i], srcs[i] = t, s
    ids, off = ids_of(texts)
    h = states(model, ids)
    d_pool = ((pooled(h, ids) - p0) ** 2).mean(1)
    loss = w_pool * d_pool.mean()
    if w_tok:
        r, p, q = align(ids, off, ids0, off0, srcs)
        loss = loss + w_tok * ((h[r, p] - h0[r, q]) ** 2).mean()
    if w_pad:  # whole 77 positions, for some of the batch
        sub = rng.sample(range(len(texts)), N_FULL)
        i77, _ = ids_of([texts[i] for i in sub], full=True)
        c77, _ = ids_of([clean[i] for i in sub], full=True)
        with torch.no_grad():
            t77 = states(frozen, c77)
        d = ((states(model, i77) - t77) ** 2).mean(2)
        mask = (torch.arange(77)[None] >= torch.maximum(eos_at(i77), eos_at(c77))[:, None]).float()
        loss = loss + w_pad * ((d * mask).sum(1) / mask.sum(1)).mean() + 0.02 * d[:, 0].mean()
    model.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(others, 1.0)
    for o, _ in opts:
        o.step()
    step += 1
    log.append(
        (
            d_pool[:N_ATTACK].mean().item() if search else (log[-1][0]),
            d_pool[N_ATTACK:-N_CLEAN].mean().item(),
            d_pool[-N_CLEAN:].mean().item(),
            (p0**2).mean().item(),
        )
    )
    if step % 50 == 0:
        a = np.mean(log[-50:], 0)
        print(
            f"{el:.0f}s step {step} loss {loss.item():.4f} pooled mse: worst {a[0]:.4f} random {a[1]:.4f} clean {a[2]:.4f} (norm {a[3]:.3f})",
            flush=True,
        )
clip.text_model = model
clip.save_pretrained(f"{out}/clip_{name}")
json.dump(
    {
        "steps": step,
        "seconds": time.process_time() - t0,
        "weights": [w_pool, w_pad, w_tok],
        "last": np.mean(log[-50:], 0).tolist(),
    },
    open(f"{out}/leaf_{name}.json", "w"),
)
print("done", flush=True)
