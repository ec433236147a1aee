"""Train the UNet on precomputed latents and hidden states.

usage: train_unet.py OUT DEADLINE(epoch seconds) [--resume]

Two one-thread processes share the weights in memory. Each works out gradients of its own half of the batch, then
updates its own shard of the parameters (Muon for matrices, Adam for the rest) with the mean gradient.
"""

import os
import sys
import time

import numpy as np
import torch
import torch.multiprocessing as mp
from diffusers import DDPMScheduler, UNet2DConditionModel

from muon import orthogonalise

WORLD, BATCH = 2, 48  # processes, samples per process and step
LR_MUON, LR_ADAM, EMA, DROP, GAMMA = 1.5e-3, 1.0e-3, 0.999, 0.1, 5.0
CONFIG = dict(
    sample_size=16,
    in_channels=4,
    out_channels=4,
    layers_per_block=1,
    block_out_channels=(96, 192),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=192,
    attention_head_dim=4,
    norm_num_groups=32,
)


def is_matrix(name, p):
    return p.ndim in (2, 4) and not any(s in name for s in ("conv_in", "conv_out", "time_embedding"))


def work(rank, out, start, deadline, model, ema, gbuf, clock, barrier, resume):
    torch.set_num_threads(1)
    torch.manual_seed(1000 * int(time.time()) % 2**31 + rank if resume else rank)
    rng = np.random.default_rng(int(time.time()) * 2 + rank if resume else rank)
    sched = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction"
    )
    abar = sched.alphas_cumprod
    weight = torch.clamp(GAMMA / (abar / (1 - abar)), max=1.0)
    hid = [np.load(f"{out}/hidden_{i}.npy", mmap_mode="r") for i in range(2)]
    lat = torch.from_numpy(np.concatenate([np.load(f"{out}/latents_{i}.npy") for i in range(2)])).float()
    null = torch.from_numpy(np.load(f"{out}/null.npy"))
    half, n = len(hid[0]), len(lat)
    # the workers' own copy shares storage with the parent's
    named = list(model.named_parameters())
    sizes = [p.numel() for _, p in named]
    offs = np.cumsum([0] + sizes)
    order = sorted(range(len(named)), key=lambda i: -(sizes[i] * (4 if is_matrix(*named[i]) else 1)))
    load, mine = [0] * WORLD, []
    for i in order:
        r = load.index(min(load))
        load[r] += sizes[i] * (4 if is_matrix(*named[i]) else 1)
        if r == rank:
            mine.append(i)
    state_file = f"{out}/unet_state_{rank}.pt"
    state = torch.load(state_file) if resume else {}
    step = state.pop("step", 0)
    t_log, losses, t_save = time.time(), [], start
    while True:
        now = clock[0].item()  # one clock for all
        if now >= deadline:
            break
        fr = (now - start) / (deadline - start)
        lr = min(1.0, (step + 1) / 20) * (1.0 if fr < 0.5 else 0.01 + 0.99 * (1 - (fr - 0.5) / 0.5))
        idx = np.sort(rng.integers(0, n, BATCH))
        z = lat[idx]
        h = torch.from_numpy(np.stack([hid[i // half][i % half] for i in idx])).float()
        h[torch.rand(BATCH) < DROP] = null[0]
        t = ((torch.randperm(BATCH) + torch.rand(BATCH)) * (1000 / BATCH)).long()  # stratified
        eps = torch.randn_like(z)
        x, v = sched.add_noise(z, eps, t), sched.get_velocity(z, eps, t)
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x.contiguous(memory_format=torch.channels_last), t, h, return_dict=False)[0]
        se = ((y.float() - v) ** 2).mean((1, 2, 3))
        (se * weight[t]).mean().backward()
        losses.append(se.mean().item())
        g = gbuf[rank]
        for i, (_, p) in enumerate(named):
            g[offs[i] : offs[i + 1]].view(p.shape).copy_(p.grad)
            p.grad = None
        barrier.wait()
        if rank == 0:
            clock[0] = time.time()
        with torch.no_grad():
            decay = min(EMA, (step + 1) / (step + 10))
            for i in mine:
                name, p = named[i]
                gr = ((gbuf[0, offs[i] : offs[i + 1]] + gbuf[1, offs[i] : offs[i + 1]]) / WORLD).view(p.shape)
                s = state.setdefault(name, {})
                if is_matrix(name, p):
                    m = s.setdefault("m", torch.zeros_like(gr))
                    m.lerp_(gr, 0.05)
                    u = orthogonalise(gr.lerp(m, 0.95).flatten(1))
                    p.add_(u.view(p.shape), alpha=-LR_MUON * lr * 0.2 * max(u.shape) ** 0.5)
                else:
                    m, q = s.setdefault("m", torch.zeros_like(gr)), s.setdefault("q", torch.zeros_like(gr))
                    m.lerp_(gr, 0.1)
                    q.lerp_(gr * gr, 0.01)
                    c1, c2 = 1 - 0.9 ** (step + 1), 1 - 0.99 ** (step + 1)
                    p.addcdiv_(m / c1, (q / c2).sqrt() + 1e-8, value=-LR_ADAM * lr)
                ema[i].lerp_(p, 1 - decay)
        step += 1
        barrier.wait()
        if rank == 0 and step % 20 == 0:
            dt = time.time() - t_log
            print(
                f"step {step} v-mse {np.mean(losses[-100:]):.4f} lr {lr:.3f} {20 * BATCH * WORLD / dt:.1f} img/s {time.strftime('%H:%M:%S')}",
                flush=True,
            )
            t_log = time.time()
        # saving is timed by the shared clock so that both ranks agree
        if clock[0].item() - t_save > 240 or clock[0].item() >= deadline:
            t_save = clock[0].item()
            if rank == 0:
                save(model, ema, out)
            torch.save({**state, "step": step}, state_file)
            barrier.wait()


def save(model, ema, out):
    torch.save(model.state_dict(), f"{out}/unet_raw.pt.tmp")
    os.replace(f"{out}/unet_raw.pt.tmp", f"{out}/unet_raw.pt")
    e = UNet2DConditionModel(**CONFIG)
    with torch.no_grad():
        for p, q in zip(e.parameters(), ema):
            p.copy_(q)
    e.save_pretrained(f"{out}/unet_ema")


if __name__ == "__main__":
    out, deadline, resume = sys.argv[1], float(sys.argv[2]), "--resume" in sys.argv
    torch.manual_seed(0)
    model = UNet2DConditionModel(**CONFIG)
    ema = [p.detach().clone() for p in model.parameters()]
    if resume:
        model.load_state_dict(torch.load(f"{out}/unet_raw.pt"))
        ema = [p.detach().clone() for p in UNet2DConditionModel.from_pretrained(f"{out}/unet_ema").parameters()]
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    model.share_memory()
    ema = [e.share_memory_() for e in ema]
    gbuf = torch.zeros(WORLD, sum(p.numel() for p in model.parameters())).share_memory_()
    clock = torch.tensor([time.time()], dtype=torch.float64).share_memory_()
    ctx = mp.get_context("spawn")
    barrier = ctx.Barrier(WORLD)
    args = (out, time.time(), deadline, model, ema, gbuf, clock, barrier, resume)
    others = [ctx.Process(target=work, args=(r, *args), daemon=True) for r in range(1, WORLD)]
    for p in others:
        p.start()
    work(0, *args)  # the first worker is this process, so that stopping it pauses the whole
    for p in others:
        p.join()
    print("done", flush=True)
