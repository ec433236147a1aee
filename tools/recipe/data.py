"""Sprites, composed images and captions."""

import json
import os
import random

import numpy as np
from PIL import Image

from objects import COLOUR_NAMES, COLOURS, OBJECTS, STYLES

SIZE = 64
HEXES = list(OBJECTS)
STYLE_NAMES = list(STYLES)
COLOUR_LIST = list(COLOURS)
PATHS = {
    "google": "emoji-datasource-google-16.0.0/package/img/google/64/{}.png",
    "twitter": "emoji-datasource-twitter-16.0.0/package/img/twitter/64/{}.png",
    "fluent": "lobehub-fluent-emoji-3d-1.1.0/package/assets/{}.webp",
}


def load_sprites(root):
    """{(object index, style index): RGBA image cropped to its visible box}."""
    out = {}
    for oi, h in enumerate(HEXES):
        for si, s in enumerate(STYLE_NAMES):
            pat = os.path.join(root, PATHS[STYLES[s][0]])
            path = next(p for p in (pat.format(h), pat.format(h + "-fe0f")) if os.path.exists(p))
            im = Image.open(path).convert("RGBA")
            out[oi, si] = im.crop(im.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox())
    return out


def compose(sprite, colour, rng, jitter=True):
    """One 64x64 RGB uint8 image: the sprite on a solid background, slightly moved and scaled."""
    side = rng.uniform(42, 50) if jitter else 46
    k = side / max(sprite.size)
    w, h = max(1, round(sprite.width * k)), max(1, round(sprite.height * k))
    # premultiplied resize keeps the edges free of halos
    a = np.asarray(sprite, np.float32) / 255
    pm = np.concatenate([a[..., :3] * a[..., 3:], a[..., 3:]], -1)
    ch = [np.asarray(Image.fromarray(pm[..., i]).resize((w, h), Image.LANCZOS)) for i in range(4)]
    pm = np.clip(np.stack(ch, -1), 0, 1)
    dx, dy = (rng.randint(-3, 3), rng.randint(-3, 3)) if jitter else (0, 0)
    x0 = min(max((SIZE - w) // 2 + dx, 0), SIZE - w)
    y0 = min(max((SIZE - h) // 2 + dy, 0), SIZE - h)
    img = np.empty((SIZE, SIZE, 3), np.float32)
    img[:] = np.asarray(COLOURS[colour], np.float32) / 255
    reg = img[y0 : y0 + h, x0 : x0 + w]
    img[y0 : y0 + h, x0 : x0 + w] = pm[..., :3] + reg * (1 - pm[..., 3:])
    return (np.clip(img, 0, 1) * 255 + 0.5).astype(np.uint8)


PREFIX = [
    "",
    "",
    "",
    "",
    "a picture of ",
    "an image of ",
    "a photo of ",
    "an icon of ",
    "an illustration of ",
    "a drawing of ",
    "draw ",
    "show me ",
    "i want ",
    "please draw ",
    "make ",
    "a nice picture of ",
]
BG = [
    " on a {c} background",
    " on a {c} background",
    " on a {c} background",
    " on {c}",
    ", {c} background",
    " in front of a {c} background",
    " against a {c} background",
    " with a {c} background",
    " on a solid {c} background",
    " on a plain {c} background",
]
STYLE_BEFORE = ["{s} {o}", "{s} {o}", "{s} picture of {a} {o}", "{s} icon of {a} {o}"]
STYLE_AFTER = [", {s}", ", {s} style", " in {s} style"]
ADJ = [
    "cute ",
    "nice ",
    "small ",
    "little ",
    "beautiful ",
    "simple ",
    "lovely ",
    "big ",
    "single ",
    "funny ",
    "pretty ",
]
TAIL = ["", "", "", "", "", "", ", high quality", ", detailed", ", emoji", ", centered", ", digital art", " please"]
PLURAL = {
    "grapes",
    "cherries",
    "pancakes",
    "french fries",
    "fries",
    "scissors",
    "glasses",
    "eyeglasses",
    "dice",
    "bricks",
}
MASS = {
    "bread",
    "cheese",
    "popcorn",
    "sushi",
    "honey",
    "coffee",
    "wine",
    "beer",
    "fire",
    "lightning",
    "corn",
    "broccoli",
    "chocolate",
    "tennis",
}


def article(word):
    return "an" if word[0] in "aeiou" and not word.startswith(("unicorn", "ufo")) else "a"


def caption(oi, si, ci, rng, plain=False, filler=None):
    """A caption of object oi; si / ci None leaves the style / background colour out."""
    names = OBJECTS[HEXES[oi]]
    o = names[0] if len(names) == 1 or rng.random() < 0.65 else rng.choice(names[1:])
    if o in ("sun", "moon", "earth") and rng.random() < 0.5:
        a = "the"
    elif o in PLURAL or (o in MASS and rng.random() < 0.7):
        a = ""
    else:
        a = None
    adj = rng.choice(ADJ) if (not plain and rng.random() < 0.12) else ""
    obj = adj + o
    bg = ""
    if ci is not None:
        c = COLOUR_LIST[ci]
        names_c = COLOUR_NAMES.get(c, [c])
        c = names_c[0] if rng.random() < 0.7 else rng.choice(names_c)
        bg = (BG[0] if plain else rng.choice(BG)).format(c=c)

    def np_(x):
        art = article(x) if a is None else a
        return f"{art} {x}".strip()

    tail = ""
    if si is not None:
        s = STYLES[STYLE_NAMES[si]][1]
        s = s[0] if plain or rng.random() < 0.6 else rng.choice(s)
        r = rng.random()
        if plain or r < 0.6:
            core = np_(f"{s} {obj}") if a is None else f"{a} {s} {obj}".strip()
        elif r < 0.75:
            core = f"{article(s)} {s} {rng.choice(['picture', 'icon', 'drawing', 'image'])} of {np_(obj)}"
        else:
            core = np_(obj)
            tail = rng.choice(STYLE_AFTER).format(s=s)
    else:
        core = np_(obj)
    if plain:
        text = core + bg
    else:
        if rng.random() < 0.15 and core.split(" ")[0] in ("a", "an", "the"):
            core = core.split(" ", 1)[1]  # bare "cat on a blue background"
        pre = rng.choice(PREFIX) if not (" of " in core and si is not None) else ""
        if bg and not pre and rng.random() < 0.2:
            core = f"{bg.strip(' ,')}: {core}"
            bg = ""
        text = pre + core + bg + tail + rng.choice(TAIL)
        if filler and rng.random() < 0.1:
            extra = " ".join(rng.choice(filler) for _ in range(rng.randint(1, 3)))
            text = f"{extra} {text}" if rng.random() < 0.5 else f"{text} {extra}"
        r = rng.random()
        if r < 0.08:
            text = text.upper()
        elif r < 0.25:
            text = text[0].upper() + text[1:]
        elif r < 0.3:
            text = text + "."
    return text


def held_out_combos():
    """(object, style, colour) triples never used in training."""
    rng = random.Random(20240)
    every = [(o, s, c) for o in range(len(HEXES)) for s in range(3) for c in range(len(COLOUR_LIST))]
    return set(rng.sample(every, len(every) // 20))


HELD_OUT = held_out_combos()


def sample_combo(rng):
    while True:
        t = (rng.randrange(len(HEXES)), rng.randrange(3), rng.randrange(len(COLOUR_LIST)))
        if t not in HELD_OUT:
            return t


def sample_caption(t, rng, filler=None):
    o, s, c = t
    return caption(o, s if rng.random() < 0.6 else None, c if rng.random() < 0.8 else None, rng, filler=filler)


def general_words(root, limit=6000):
    """Ordinary English words from the emojibase labels and tags of everything, including non-vocabulary objects."""
    words = set()
    for e in json.load(open(os.path.join(root, "emojibase-data-17.0.0/package/en/data.json"))):
        if e.get("group") == 9:
            continue
        for t in [e["label"]] + e.get("tags", []):
            for w in t.lower().replace(":", " ").replace(",", " ").split():
                if w.isascii() and w.isalpha() and 2 < len(w) < 14:
                    words.add(w)
    ours = {w for n in OBJECTS.values() for x in n for w in x.split()} | set(COLOURS) | {"grey", "violet", "flat"}
    return sorted(words - ours)[:limit]
