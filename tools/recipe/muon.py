"""Muon (orthogonalised momentum) for convolution / matrix weights, AdamW for the rest."""

import torch


def orthogonalise(g, steps=5):
    x = g.bfloat16() if g.numel() > 20000 else g.clone()
    t = x.shape[0] > x.shape[1]
    if t:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if t else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for grp in self.param_groups:
            for p in grp["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - grp["momentum"])
                g = p.grad.lerp(m, grp["momentum"]).flatten(1)
                u = orthogonalise(g)
                p.add_(u.reshape(p.shape), alpha=-grp["lr"] * 0.2 * max(g.shape) ** 0.5)


def split(model, skip=("conv_in", "conv_out", "embedding", "time_emb")):
    """(matrix-like hidden weights, everything else)"""
    a, b = [], []
    for n, p in model.named_parameters():
        (a if p.ndim in (2, 4) and not any(s in n for s in skip) else b).append(p)
    return a, b
