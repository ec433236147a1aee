"""Compose the pool of training images once: images.npy (uint8) and combos.npy (object, style, colour)."""

import random
import sys

import numpy as np
from PIL import Image

from data import COLOUR_LIST, compose, general_words, load_sprites, sample_caption, sample_combo

root, out, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(1)
sprites = load_sprites(root)
combos = np.array([sample_combo(rng) for _ in range(n)], np.int16)
images = np.empty((n, 64, 64, 3), np.uint8)
for i, (o, s, c) in enumerate(combos):
    images[i] = compose(sprites[o, s], COLOUR_LIST[c], rng)
np.save(f"{out}/images.npy", images)
np.save(f"{out}/combos.npy", combos)
sheet = Image.new("RGB", (16 * 64, 10 * 64))
for i in range(160):
    sheet.paste(Image.fromarray(images[i]), (i % 16 * 64, i // 16 * 64))
sheet.save(f"{out}/pool.png")
words = general_words(root)
print(len(words), words[::300])
for i in range(40):
    print(sample_caption(combos[i], rng, words))
