"""Latents of the pool and hidden states of one caption per image.

usage: encode_pool.py DATA PACKAGES OUT PART PARTS
"""

import os
import random
import sys
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTokenizerFast

from data import general_words, sample_caption

data, root, out, part, parts = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
N, L = 32000, 77
torch.set_num_threads(1)
tok = CLIPTokenizerFast.from_pretrained(f"{data}/tokenizer")
text = CLIPModel.from_pretrained(f"{out}/clip").text_model.eval()
images = np.load(f"{data}/images.npy", mmap_mode="r")
combos = np.load(f"{data}/combos.npy")
words = general_words(root)
lo, hi = N * part // parts, N * (part + 1) // parts
rng = random.Random(100 + part)
W = text.config.hidden_size
hid = np.lib.format.open_memmap(f"{out}/hidden_{part}.npy", "w+", np.float16, (hi - lo, L, W))
lat = np.empty((hi - lo, 4, 16, 16), np.float16)
caps = []
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    for i in range(lo, hi, 64):
        j = min(i + 64, hi)
        c = [sample_caption(tuple(t), rng, words) for t in combos[i:j]]
        caps += c
        ids = tok(c, padding="max_length", truncation=True, max_length=L, return_tensors="pt").input_ids
        hid[i - lo : j - lo] = text(input_ids=ids).last_hidden_state.float().numpy()
    ids = tok([""], padding="max_length", max_length=L, return_tensors="pt").input_ids
    if part == 0:
        np.save(f"{out}/null.npy", text(input_ids=ids).last_hidden_state.float().numpy())
    print("captions done", part, flush=True)
    while not os.path.exists(f"{out}/vae_train.json"):
        time.sleep(1)
    vae = AutoencoderKL.from_pretrained(f"{out}/vae").eval().to(memory_format=torch.channels_last)
    for i in range(lo, hi, 64):
        j = min(i + 64, hi)
        x = torch.from_numpy(np.ascontiguousarray(images[i:j])).permute(0, 3, 1, 2).float() / 127.5 - 1
        z = (
            vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mode().float()
            * vae.config.scaling_factor
        )
        lat[i - lo : j - lo] = z.numpy()
np.save(f"{out}/latents_{part}.npy", lat)
open(f"{out}/captions_{part}.txt", "w").write("\n".join(caps))
print("done", part, lat.astype(np.float32).std(), lat.astype(np.float32).mean((0, 2, 3)), flush=True)
