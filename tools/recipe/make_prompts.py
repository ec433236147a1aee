"""Two disjoint sets of evaluation prompts from the held-out compositions.

usage: make_prompts.py PUBLIC.json HELD_BACK.json
"""

import json
import os
import random
import sys

from attack import typo
from data import COLOUR_LIST, HELD_OUT, HEXES, STYLE_NAMES, caption
from objects import OBJECTS

N = 72
rng = random.Random(77)
combos = sorted(HELD_OUT)
rng.shuffle(combos)
sets, used_text = [[], []], set()
for which in (0, 1):
    seen = set()
    for t in list(combos):
        if len(sets[which]) == N:
            break
        if t[0] in seen:
            continue
        o, s, c = t
        say_s = rng.random() < 0.5
        text = caption(o, s if say_s else None, c, rng, plain=rng.random() < 0.5)
        if text in used_text:
            continue
        used_text.add(text)
        seen.add(o)
        combos.remove(t)
        src = list(range(len(text)))
        sets[which].append(
            {
                "prompt": text,
                "typo": typo(text, src, rng, 1)[0],
                "typo2": typo(text, src, rng, 2)[0],
                "object": OBJECTS[HEXES[o]][0],
                "style": STYLE_NAMES[s] if say_s else None,
                "background": COLOUR_LIST[c],
                "seed": 1000 * (which + 1) + len(sets[which]),
            }
        )
for path, s in zip(sys.argv[1:3], sets):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    json.dump(
        {
            "about": "Prompts for compositions that were not in the training set; typo/typo2 carry one/two random edits.",
            "prompts": s,
        },
        open(path, "w"),
        indent=1,
    )
    print(path, len(s), s[0], s[1])
