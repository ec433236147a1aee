"""Train the AutoencoderKL (64x64x3 -> 16x16x4).

usage: train_vae.py DATA OUT SECONDS [THREADS]
"""

import json
import math
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

from muon import Muon, split

data, out, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
torch.manual_seed(0)
images = np.load(f"{data}/images.npy", mmap_mode="r")
n_train = len(images) - 500
vae = AutoencoderKL(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    sample_size=64,
    norm_num_groups=16,
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    block_out_channels=(32, 48, 96),
    layers_per_block=1,
).to(memory_format=torch.channels_last)
if os.path.exists(f"{out}/vae/config.json"):
    vae.load_state_dict(AutoencoderKL.from_pretrained(f"{out}/vae").state_dict())
    print("resumed", flush=True)
print("parameters", sum(p.numel() for p in vae.parameters()), flush=True)
mats, others = split(vae)
opts = [(Muon(mats), 1.2e-3), (torch.optim.Adam(others, betas=(0.9, 0.99)), 1.5e-3)]
KL = 3e-4
CROPS = 0.6  # this share of the time on 32x32 crops (four times as many steps), the rest on whole images


def batch(idx):
    x = torch.from_numpy(np.ascontiguousarray(images[np.sort(idx)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def edges(x):
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def evaluate():
    vae.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x = batch(np.arange(n_train, n_train + 32))
        z = vae.encode(x).latent_dist.mode()
        y = vae.decode(z).sample.float().clamp(-1, 1)
    psnr = (10 * torch.log10(4 / ((x - y) ** 2).mean((1, 2, 3)))).mean().item()
    rows = torch.cat([x[:16], y[:16]]).permute(0, 2, 3, 1)
    g = (
        ((rows + 1) * 127.5)
        .round()
        .byte()
        .numpy()
        .reshape(2, 16, 64, 64, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(128, 1024, 3)
    )
    Image.fromarray(g).save(f"{out}/vae_recon.png")
    vae.train()
    return psnr, z.float().std().item()


rng = np.random.default_rng(0)
t0, step, last = time.process_time(), 0, time.time()
while (el := time.process_time() - t0) < seconds:  # CPU seconds: the process may be paused
    fr = el / seconds
    lr = min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fr)))
    for o, peak in opts:
        o.param_groups[0]["lr"] = peak * lr
    if fr < CROPS:
        x = batch(rng.integers(0, n_train, 12))
        i, j = rng.integers(0, 9, 2) * 4
        x = x[:, :, i : i + 32, j : j + 32].contiguous(memory_format=torch.channels_last)
    else:
        x = batch(rng.integers(0, n_train, 6))
    with torch.autocast("cpu", torch.bfloat16):
        post = vae.encode(x).latent_dist
        y = vae.decode(post.sample()).sample
    y = y.float()
    kl = 0.5 * (post.mean.float() ** 2 + post.var.float() - 1 - post.logvar.float()).mean()
    rec = (x - y).abs().mean()
    gx, gy = edges(x), edges(y)
    grad = (gx[0] - gy[0]).abs().mean() + (gx[1] - gy[1]).abs().mean()
    mse = F.mse_loss(y, x)
    loss = rec + 0.5 * grad + mse + KL * kl
    vae.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(others, 1.0)
    for o, _ in opts:
        o.step()
    step += 1
    if step in (20, 100) or time.time() - last > 40:
        p, s = evaluate()
        print(
            f"{el:.0f}s step {step} l1 {rec.item():.4f} grad {grad.item():.4f} kl {kl.item():.2f} psnr {p:.2f} std {s:.3f}",
            flush=True,
        )
        last = time.time()
        vae.save_pretrained(f"{out}/vae")

vae.eval()
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    z = torch.cat([vae.encode(batch(np.arange(i, i + 64))).latent_dist.mode().float() for i in range(0, 1024, 64)])
vae.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
vae.save_pretrained(f"{out}/vae")
json.dump(
    {
        "steps": step,
        "seconds": time.process_time() - t0,
        "latent_std": z.std().item(),
        "latent_mean": z.mean((0, 2, 3)).tolist(),
        "channel_std": z.std((0, 2, 3)).tolist(),
        "psnr32": evaluate()[0],
    },
    open(f"{out}/vae_train.json", "w"),
    indent=1,
)
print("done", flush=True)
