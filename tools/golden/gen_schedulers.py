"""schedulers/<Class>.json: timesteps, sigmas and whole trajectories; alphas_cumprod.json.

The synthetic model, all in float32 except the sine:  m(x, t) = tanh(0.7*x) + float32(0.1*sin(float64(t)))
where x is the output of scale_model_input and t the scheduler's timestep. Its output is handed to step()
whatever prediction_type says. A loop is the pipelines' loop:
    x = noise * init_noise_sigma                          (txt2img)
    x = add_noise(init, noise, timesteps[t_start*order])  (img2img, timesteps cut as in get_timesteps, set_begin_index)
    for t in timesteps: x = step(m(scale_model_input(x, t), t), t, x)
"""

import importlib
import inspect
import math

import numpy as np
import torch
from common import args, dump_cases, f32list, num
import diffusers


def model(x, t):
    return torch.tanh(0.7 * x) + torch.tensor(0.1 * math.sin(float(t)), dtype=torch.float32)


class Recorder:
    def __init__(self, mod):
        self.log, self.mod = [], mod
        self.orig = getattr(mod, "randn_tensor", None)
        if self.orig:
            mod.randn_tensor = self

    def __call__(self, *a, **k):
        n = self.orig(*a, **k)
        self.log.append(n)
        return n

    def done(self):
        if self.orig:
            self.mod.randn_tensor = self.orig


def tval(t):
    return int(t) if not torch.is_floating_point(t) else num(float(np.float32(t)))


def run(c, k, steps, strength, bases):
    cls = getattr(diffusers, k["class"])
    conf = dict(bases[k["base"]], **k.get("set", {}))
    s = cls.from_config(conf)
    kw = {}
    par = inspect.signature(s.step).parameters
    for n in ("eta", "s_churn", "use_clipped_model_output"):
        if n in k:
            kw[n] = k[n]
    resolved = {a: b for a, b in s.config.items() if not a.startswith("_") and b is not None and b != []}
    resolved = {a: ("-inf" if b == -float("inf") else b) for a, b in resolved.items()}
    r = {
        "class": k["class"],
        "base": k["base"],
        "label": k.get("label", ""),
        "config": resolved,
        "steps": steps,
        "step_kwargs": kw,
        "order": s.order,
    }
    set_kw = {}
    if "original_inference_steps" in k:
        set_kw = {"original_inference_steps": k["original_inference_steps"]}
        r["set_timesteps_kwargs"] = dict(set_kw)
    if strength is not None and k["class"] in ("LCMScheduler", "TCDScheduler") and k.get("strength_kwarg"):
        set_kw["strength"] = strength
        r["set_timesteps_kwargs"] = dict(set_kw)
    try:
        s.set_timesteps(steps, device="cpu", **set_kw)
    except Exception as e:
        r["error"] = type(e).__name__ + ": " + str(e)[:200]
        return r
    r["timesteps"] = [tval(t) for t in s.timesteps]
    if hasattr(s, "sigmas") and s.sigmas is not None and len(s.sigmas) <= 4 * steps + 4:
        r["sigmas"] = f32list(s.sigmas)
    r["init_noise_sigma"] = num(float(s.init_noise_sigma))
    g = torch.Generator().manual_seed(c["seed"])
    noise = torch.randn(c["shape"], generator=g)
    init = torch.randn(c["shape"], generator=g) * 0.8
    ts = s.timesteps
    if strength is None:
        x = noise * s.init_noise_sigma
    else:
        n = min(int(steps * strength), steps)
        t0 = max(steps - n, 0)
        ts = s.timesteps[t0 * s.order :]
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(t0 * s.order)
        r.update(
            strength=strength,
            t_start=t0,
            begin_index=t0 * s.order,
            steps_run=steps - t0,
            img2img_timesteps=[tval(t) for t in ts],
        )
        if len(ts) == 0:
            r["note"] = "no timestep left: the pipelines raise ValueError"
            return r
        x = s.add_noise(init, noise, ts[:1])
        r["init"] = f32list(init)
    r["noise"] = f32list(noise)
    r["start"] = f32list(x)
    rec = Recorder(importlib.import_module(cls.__module__))
    sg = torch.Generator().manual_seed(c["seed"] + 1)
    r["step_generator_seed"] = c["seed"] + 1
    if "generator" in par:
        kw["generator"] = sg
    tr = []
    try:
        for t in ts:
            a = len(rec.log)
            xin = s.scale_model_input(x, t)
            m = model(xin, t)
            x = s.step(m, t, x, **kw).prev_sample
            e = {"t": tval(t), "m": f32list(m), "x": f32list(x)}
            if not torch.equal(xin, x) and "sigmas" in r and not c.get("no_scaled"):
                e["in"] = f32list(xin)
            if len(rec.log) > a:
                e["noise"] = f32list(rec.log[a])
                assert len(rec.log) == a + 1
            tr.append(e)
    except Exception as e:
        r["error"] = type(e).__name__ + ": " + str(e)[:200]
    finally:
        rec.done()
        kw.pop("generator", None)
    r["trajectory"] = tr
    return r


def main():
    cfg, out = args()
    c = cfg["schedulers"]
    bases = c["bases"]
    by = {}
    for k in c["cases"]:
        for steps in k["steps"]:
            by.setdefault(k["class"], []).append(run(c, k, steps, None, bases))
        for steps, strength in k.get("img2img", []):
            by.setdefault(k["class"], []).append(run(c, k, steps, strength, bases))
    for cl, cs in by.items():
        dump_cases(
            {"class": cl, "shape": c["shape"], "seed": c["seed"], "diffusers": diffusers.__version__},
            cs,
            f"{out}/{cl}.json",
        )
        err = [(x["label"], x["steps"], x["error"]) for x in cs if "error" in x]
        bad = [
            (x["label"], x["base"], x["steps"])
            for x in cs
            if any(not isinstance(v, float) or abs(v) > 1e3 for e in x.get("trajectory", []) for v in e["x"])
        ]
        print(cl, len(cs), "errors", err, "large/nan", bad)
    ac = []
    for b in c["alphas"]:
        s = diffusers.DDIMScheduler.from_config(b)
        ac.append({"config": b, "betas": f32list(s.betas), "alphas_cumprod": f32list(s.alphas_cumprod)})
    dump_cases({}, ac, f"{out}/alphas_cumprod.json")
    # add_noise / get_velocity for several timesteps
    an = []
    g = torch.Generator().manual_seed(c["seed"] + 7)
    x0 = torch.randn([3] + c["shape"][1:], generator=g)
    nz = torch.randn([3] + c["shape"][1:], generator=g)
    for cl in by:
        for bn in c["add_noise_bases"]:
            s = getattr(diffusers, cl).from_config(bases[bn])
            s.set_timesteps(10)
            ts = s.timesteps[[0, len(s.timesteps) // 2, -1]]
            e = {
                "class": cl,
                "base": bn,
                "steps": 10,
                "timesteps": [tval(t) for t in ts],
                "x0": f32list(x0),
                "noise": f32list(nz),
            }
            try:
                e["noisy"] = f32list(s.add_noise(x0, nz, ts))
            except Exception as ex:
                e["error"] = type(ex).__name__ + ": " + str(ex)[:100]
            if hasattr(s, "get_velocity"):
                try:
                    e["velocity"] = f32list(s.get_velocity(x0, nz, ts))
                except Exception as ex:
                    e["velocity_error"] = type(ex).__name__
            an.append(e)
    dump_cases({"shape": [3] + c["shape"][1:]}, an, f"{out}/add_noise.json")


main()
