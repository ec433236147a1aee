"""tensor/testdata/adamw.json: steps of torch.optim.AdamW, one tensor at a time, float32.

python gen_adamw.py ../../tensor/testdata/adamw.json
"""

import math
import sys

import torch
from common import dump_cases, f32list

CASES = {
    "betas of ViT-L": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-4, "lr": 1e-2},
    "betas of ViT-H": {"betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 1e-4, "lr": 1e-2},
    "no decay": {"betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.0, "lr": 1e-2},
    "inversion": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "lr": 0.1},
    "no memory": {"betas": (0.0, 0.0), "eps": 1e-3, "weight_decay": 0.5, "lr": 0.1},
    "short memory": {"betas": (0.4, 0.6), "eps": 1e-3, "weight_decay": 0.5, "lr": 0.1},
}
STEPS, WARMUP, SIZE = 8, 3, 12


def rate(step):
    """share of the learning rate: linear warm-up, then cosine to almost 0"""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP + 1) / (STEPS - WARMUP + 1)))


def gradients(r):
    """[STEPS,SIZE]: sizes from 1e-9 to 1e2; value 0 never has one, value 1 only at first, value 2 only at last"""
    g = torch.randn(STEPS, SIZE, generator=r) * 10 ** torch.linspace(-9, 2, SIZE)[torch.randperm(SIZE, generator=r)]
    g[:, 0], g[1:, 1], g[:-1, 2] = 0, 0, 0
    g[0, 1], g[-1, 2] = 0.5, -0.5
    return g


def main():
    r, cases = torch.Generator().manual_seed(1), []
    for name, c in CASES.items():
        x = torch.nn.Parameter(torch.randn(SIZE, generator=r))
        opt = torch.optim.AdamW([x], **c, foreach=False, fused=False)
        start, steps = f32list(x), []
        for step, g in enumerate(gradients(r)):
            opt.param_groups[0]["lr"] = lr = c["lr"] * rate(step)
            x.grad = g.clone()
            opt.step()
            state = {"x": x, "m": opt.state[x]["exp_avg"], "v": opt.state[x]["exp_avg_sq"]}
            steps.append({"lr": lr, "gradient": f32list(g), **{k: f32list(t) for k, t in state.items()}})
        del c["lr"]
        cases.append({"name": name, **c, "start": start, "steps": steps})
    dump_cases({"versions": {"torch": torch.__version__, "python": sys.version.split()[0]}}, cases, sys.argv[1])


main()
