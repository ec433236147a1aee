"""Make the held-out data set of leaf-emoji-64: make.py PACKAGES MODEL_DIR

The pictures and captions are those that tools/recipe/evaluate.py --clip measures on (same generator, same order), stored
without loss. PACKAGES holds the unpacked npm packages, as tools/recipe/README.md says. Writes, beside this file, the folder
leaf-emoji-64 with captions.jsonl, classes.jsonl, prompts.jsonl and images/, and ../testdata/card.json with the figures that
PyTorch gives for the stored files in float32.
"""

import json
import os
import random
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizerFast

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "tools", "recipe"))
from attack import typo  # noqa: E402
from data import COLOUR_LIST, HELD_OUT, HEXES, STYLE_NAMES, caption, compose, load_sprites  # noqa: E402
from objects import OBJECTS  # noqa: E402

packages, model = sys.argv[1:3]
out = os.path.join(here, "leaf-emoji-64")
os.makedirs(f"{out}/images", exist_ok=True)
TYPOS = 5


def random_typos(texts, k):
    """The text with k random edits, as evaluate.py draws them."""
    r = random.Random(0)
    return [typo(t, list(range(len(t))), r, k)[0] for t in texts]


def with_typos(rows, key):
    texts = [r[key] for r in rows]
    levels = [random_typos(texts, k) for k in range(1, TYPOS + 1)]
    return [{**r, "typos": [level[i] for level in levels]} for i, r in enumerate(rows)]


def write(name, rows):
    with open(f"{out}/{name}", "w") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


rng = random.Random(9)
sprites = load_sprites(packages)
combos = sorted(HELD_OUT)
images = np.stack([compose(sprites[o, s], COLOUR_LIST[c], rng) for o, s, c in combos])
caps = [caption(o, s, c, rng, plain=rng.random() < 0.5) for o, s, c in combos]
for i, im in enumerate(images):
    Image.fromarray(im).save(f"{out}/images/{i:03}.webp", lossless=True, quality=100, method=6, exact=True)

names = [OBJECTS[h][0] for h in HEXES]
classes = [{"name": n, "prompt": caption(o, None, None, random.Random(o), plain=True)} for o, n in enumerate(names)]
rows = [
    {"image": f"images/{i:03}.webp", "text": t, "class": names[o], "style": STYLE_NAMES[s], "background": COLOUR_LIST[c]}
    for i, (t, (o, s, c)) in enumerate(zip(caps, combos))
]
rows = with_typos(rows, "text")
classes = with_typos(classes, "prompt")
write("captions.jsonl", rows)
write("classes.jsonl", classes)


def public_combos():
    """The compositions of the 72 public prompts: make_prompts.py takes, of the shuffled ones, the first of each object."""
    r = random.Random(77)
    left = sorted(HELD_OUT)
    r.shuffle(left)
    taken, texts, seen = [], set(), set()
    for o, s, c in left:
        if len(taken) == 72 or o in seen:
            continue
        say = r.random() < 0.5
        text = caption(o, s if say else None, c, r, plain=r.random() < 0.5)
        if text in texts:
            continue
        for k in (1, 2):  # only to draw what make_prompts.py draws
            typo(text, list(range(len(text))), r, k)
        texts.add(text)
        seen.add(o)
        taken.append((o, s, c))
    return taken, texts


taken, texts = public_combos()
public = json.load(open(f"{model}/eval/prompts.json"))["prompts"]
assert texts == {p["prompt"] for p in public}
prompts = []
for row, combo in zip(rows, combos):
    if combo in taken or row["text"] in texts:
        continue
    texts.add(row["text"])
    p = {"prompt": row["text"], "seed": 3000 + len(prompts), "object": row["class"], "style": row["style"]}
    prompts.append({**p, "background": row["background"], "typos": row["typos"]})
write("prompts.jsonl", prompts)
print(len(rows), "captions", len(classes), "classes", len(prompts), "prompts")

# What PyTorch makes of the stored files.
torch.set_num_threads(2)
tok = CLIPTokenizerFast.from_pretrained(f"{model}/tokenizer")
clip = CLIPModel.from_pretrained(f"{model}/clip").float().eval()
stored = np.stack([np.asarray(Image.open(f"{out}/{r['image']}")) for r in rows])
assert (stored == images).all()


@torch.no_grad()
def image_features(imgs):
    x = torch.from_numpy(imgs).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.normalize(clip.get_image_features(pixel_values=x), dim=-1)


@torch.no_grad()
def embed(encoder, texts):
    ids = tok(texts, padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids
    h = encoder(input_ids=ids).last_hidden_state
    return F.normalize(clip.text_projection(h[torch.arange(len(ids)), (ids == 49407).int().argmax(1)]), dim=-1)


feats, every = image_features(stored), torch.arange(len(rows))
label = torch.tensor([names.index(r["class"]) for r in rows])
card = {}
for which, folder in (("standard", "text_encoder"), ("robust", "text_encoder_robust")):
    enc = CLIPTextModel.from_pretrained(f"{model}/{folder}").float().eval()
    for k in range(TYPOS + 1):
        zs = embed(enc, [c["typos"][k - 1] if k else c["prompt"] for c in classes])
        tx = embed(enc, [r["typos"][k - 1] if k else r["text"] for r in rows])
        means = [(feats @ zs.T).argmax(1).eq(label), (tx @ feats.T).argmax(1).eq(every), (feats @ tx.T).argmax(1).eq(every)]
        row = zip(("zero_shot", "text_to_image_r1", "image_to_text_r1"), means)
        card[f"{which}/typo{k}" if k else f"{which}/clean"] = {n: round(m.float().mean().item(), 4) for n, m in row}
os.makedirs(f"{here}/../testdata", exist_ok=True)
json.dump(card, open(f"{here}/../testdata/card.json", "w"), indent=1)
for name, row in card.items():
    print(name, row)
