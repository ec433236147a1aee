"""pipelines/<model>/parts.safetensors (every network alone) and pipelines/<model>/cases.json + <case>.safetensors.

usage: gen_pipelines.py CONFIG OUTDIR MODELSDIR [only-model]"""

import inspect
import os
import sys
import warnings

import numpy as np
import PIL.Image
import torch
from common import args, dump, dump_cases, sha
from safetensors.torch import load_file, save_file
import diffusers
from sdlib import load, maskpic, picture, toks

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()


@torch.no_grad()
def parts(c, p, tk, out):
    t, info = {}, {"texts": c["texts"]}
    ctxs = []
    for n, m in (("text_encoder", p["text_encoder"]), ("text_encoder_2", p.get("text_encoder_2"))):
        if m is None:
            continue
        ids = tk["tokenizer" + n[12:]](
            c["texts"], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        ).input_ids
        o = m(ids, output_hidden_states=True)
        t[f"{n}.input_ids"] = ids.int()
        for i, h in enumerate(o.hidden_states):
            t[f"{n}.hidden_states.{i}"] = h
        t[f"{n}.last_hidden_state"] = o.last_hidden_state
        if hasattr(o, "text_embeds"):
            t[f"{n}.text_embeds"] = o.text_embeds
        else:
            t[f"{n}.pooler_output"] = o.pooler_output
        ctxs.append(o)
    xl = len(ctxs) == 2
    ctx = torch.cat([o.hidden_states[-2] for o in ctxs], -1) if xl else ctxs[0].last_hidden_state
    u, v = p["unet"], p["vae"]
    g = torch.Generator().manual_seed(c["seed"])
    un = []
    for i, (B, h, w, ts) in enumerate(c["unet"]):
        x = torch.randn(B, u.config.in_channels, h, w, generator=g)
        kw = {}
        sel = [(i + j) % len(c["texts"]) for j in range(B)]
        e = ctx[sel]
        if xl:
            kw["added_cond_kwargs"] = {
                "text_embeds": ctxs[1].text_embeds[sel],
                "time_ids": torch.tensor([[h * 8, w * 8, 0, i, h * 8 + i, w * 8]] * B).float(),
            }
            t[f"unet.{i}.text_embeds"], t[f"unet.{i}.time_ids"] = (
                kw["added_cond_kwargs"]["text_embeds"],
                kw["added_cond_kwargs"]["time_ids"],
            )
        hooks = []
        if i == 0:
            names = (
                ["time_proj", "time_embedding", "conv_in", "mid_block"]
                + [f"down_blocks.{j}" for j in range(len(u.down_blocks))]
                + [f"up_blocks.{j}" for j in range(len(u.up_blocks))]
                + (["add_embedding"] if xl else [])
            )
            for nm in names:

                def hk(mod, a, o, nm=nm):
                    t[f"unet.0.inner.{nm}"] = (o[0] if isinstance(o, tuple) else o).clone()

                hooks.append(u.get_submodule(nm).register_forward_hook(hk))
        tt = torch.tensor(ts, dtype=torch.float32 if any(isinstance(a, float) for a in ts) else torch.int64)
        y = u(x, tt if len(ts) > 1 else tt[0], encoder_hidden_states=e, **kw).sample
        for hk in hooks:
            hk.remove()
        t[f"unet.{i}.sample"], t[f"unet.{i}.timestep"], t[f"unet.{i}.encoder_hidden_states"], t[f"unet.{i}.out"] = (
            x,
            tt.float(),
            e,
            y,
        )
        un.append({"i": i, "timesteps": ts, "shape": list(x.shape), "texts": sel, "out_std": float(y.std())})
    vs = []
    f = 2 ** (len(v.config.block_out_channels) - 1)
    for i, (B, h, w) in enumerate(c["vae"]):
        im = torch.stack(
            [
                torch.from_numpy(picture(w * f, h * f, c["seed"] + i * 10 + b)).permute(2, 0, 1).float() / 127.5 - 1
                for b in range(B)
            ]
        )
        d = v.encode(im).latent_dist
        z = torch.randn(B, 4, h, w, generator=g) * 4
        sg = torch.Generator().manual_seed(c["seed"] + 77)
        t.update(
            {
                f"vae.{i}.image": im,
                f"vae.{i}.moments": d.parameters,
                f"vae.{i}.mean": d.mean,
                f"vae.{i}.logvar": d.logvar,
                f"vae.{i}.std": d.std,
                f"vae.{i}.sample": d.sample(sg),
                f"vae.{i}.z": z,
                f"vae.{i}.decoded": v.decode(z).sample,
            }
        )
        vs.append(
            {
                "i": i,
                "sample_generator_seed": c["seed"] + 77,
                "mean_std": float(d.mean.std()),
                "std_mean": float(d.std.mean()),
                "decoded_std": float(t[f"vae.{i}.decoded"].std()),
                "decoded_beyond_1": float((t[f"vae.{i}.decoded"].abs() > 1).float().mean()),
            }
        )
    save_file({k: a.contiguous().clone() for k, a in t.items()}, f"{out}/parts.safetensors")
    info.update(unet=un, vae=vs)
    dump(info, f"{out}/parts.json", indent=1)
    print("  parts", un[0]["out_std"], vs[0], flush=True)


def pipe_class(kind, xl):
    x = "XL" if xl else ""
    return getattr(
        diffusers,
        {
            "txt2img": f"StableDiffusion{x}Pipeline",
            "img2img": f"StableDiffusion{x}Img2ImgPipeline",
            "inpaint": f"StableDiffusion{x}InpaintPipeline",
        }[kind],
    )


def run_case(k, p, tk, perturb=0.0):
    xl = "text_encoder_2" in p
    P = pipe_class(k["pipe"], xl)
    comp = dict(p, **tk)
    s = k.get("scheduler")
    if s:
        comp["scheduler"] = getattr(diffusers, s["class"]).from_config(p["scheduler"].config, **s.get("set", {}))
    if not xl:
        comp.update(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    elif k["pipe"] == "txt2img":
        comp["add_watermarker"] = False
    comp = {a: b for a, b in comp.items() if a in inspect.signature(P.__init__).parameters}
    pipe = P(**comp)
    pipe.set_progress_bar_config(disable=True)
    a = dict(k["args"])
    t = {}
    gens = [torch.Generator().manual_seed(x) for x in k["seeds"]]
    a["generator"] = gens if k.get("list") else gens[0]
    if "image" in k:
        im = picture(*k["image"])
        t["in.image"] = torch.from_numpy(im)
        a["image"] = PIL.Image.fromarray(im)
    if "mask" in k:
        m = maskpic(k["image"][0], k["image"][1], k["mask"])
        t["in.mask"] = torch.from_numpy(m)
        a["mask_image"] = PIL.Image.fromarray(m)
    lat, unet_log, ts = [], [], []

    def cb(pp, i, tt, kw):
        lat.append(kw["latents"].detach().clone())
        ts.append(float(tt))
        return {}

    a["callback_on_step_end"] = cb

    def wrap(obj, name, key):
        f = getattr(obj, name)

        def g(*x, **y):
            o = f(*x, **y)
            for i, q in enumerate(o if isinstance(o, (tuple, list)) else [o]):
                if torch.is_tensor(q):
                    t[f"{key}.{i}"] = q.detach().clone()
            return o

        setattr(obj, name, g)

    wrap(pipe, "encode_prompt", "encode_prompt")
    wrap(pipe, "prepare_latents", "prepare_latents")
    if hasattr(pipe, "prepare_mask_latents"):
        wrap(pipe, "prepare_mask_latents", "prepare_mask_latents")
    pg = torch.Generator().manual_seed(5)

    def hook(mod, args_, kwargs, o):
        sample = o[0] if isinstance(o, tuple) else o.sample
        if not unet_log:
            t["unet0.sample"] = args_[0].clone()
            t["unet0.encoder_hidden_states"] = kwargs["encoder_hidden_states"].clone()
            ac = kwargs.get("added_cond_kwargs")
            if ac:
                t["unet0.text_embeds"], t["unet0.time_ids"] = ac["text_embeds"].clone(), ac["time_ids"].float().clone()
            t["unet0.out"] = sample.clone()
        unet_log.append(float(args_[1]))
        if perturb:
            sample = sample * (1 + perturb * torch.randn(sample.shape, generator=pg))
            return (sample,) if isinstance(o, tuple) else type(o)(sample=sample)

    h = p["unet"].register_forward_hook(hook, with_kwargs=True)
    dec = []
    vd = pipe.vae.decode

    def decode(z, *x, **y):
        o = vd(z, *x, **y)
        dec.append((z.clone(), o[0].clone()))
        return o

    pipe.vae.decode = decode
    try:
        o = pipe(**a)
    finally:
        h.remove()
        pipe.vae.__dict__.pop("decode", None)
    img = np.stack([np.asarray(x) for x in o.images])
    t["steps.latents"] = torch.stack(lat)
    t["final_latents"] = lat[-1]
    t["vae_in"], t["decoded"] = dec[-1]
    t["image_u8"] = torch.from_numpy(img)
    info = {
        "callback_timesteps": ts,
        "unet_calls": len(unet_log),
        "unet_timesteps": unet_log,
        "unet_batch": int(t["unet0.sample"].shape[0]),
    }
    return t, info, pipe


def main():
    cfg, out0 = args()
    md = sys.argv[3]
    only = sys.argv[4] if len(sys.argv) > 4 else None
    for c in cfg["pipelines"]:
        if only and c["model"] != only:
            continue
        d, out = f"{md}/{c['model']}", f"{out0}/{c.get('dir', c['model'])}"
        os.makedirs(out, exist_ok=True)
        print(c["model"], flush=True)
        idx, p = load(d)
        tk = toks(d, cfg["tokenizer_dir"])
        if "parts" in c:
            parts(c["parts"], p, tk, out)
        res = []
        for k in c["cases"]:
            try:
                t, info, pipe = run_case(k, p, tk)
                q, _, _ = run_case(k, p, tk, 1e-6)
            except Exception as e:
                if "error_expected" not in k:
                    import traceback

                    traceback.print_exc()
                res.append(dict(k, error=type(e).__name__ + ": " + str(e)[:300]))
                print("  ERROR", k["name"], res[-1]["error"], flush=True)
                continue
            dl = float((t["final_latents"] - q["final_latents"]).abs().max())
            du = (t["image_u8"].int() - q["image_u8"].int()).abs()
            sc = {a: b for a, b in pipe.scheduler.config.items() if not a.startswith("_") and b is not None and b != []}
            sc = {a: ("-inf" if b == -float("inf") else b) for a, b in sc.items()}
            # small files: the decoder's float output only for the first cases; a UNet input that encode_prompt
            # already holds is left out
            drop = set() if len(res) < c.get("keep_decoded", 3) else {"decoded"}
            e = [t[f"encode_prompt.{i}"] for i in (1, 0) if f"encode_prompt.{i}" in t]
            if torch.equal(torch.cat(e), t["unet0.encoder_hidden_states"]) or torch.equal(
                t["encode_prompt.0"], t["unet0.encoder_hidden_states"]
            ):
                drop.add("unet0.encoder_hidden_states")
            save_file(
                {a: b.contiguous().clone() for a, b in t.items() if a not in drop}, f"{out}/{k['name']}.safetensors"
            )
            back = load_file(f"{out}/{k['name']}.safetensors")
            assert (
                torch.equal(back["final_latents"], t["final_latents"]) and torch.isfinite(back["final_latents"]).all()
            )
            rec = dict(
                k,
                pipeline_class=type(pipe).__name__,
                scheduler_class=type(pipe.scheduler).__name__,
                scheduler_config=sc,
                **info,
                final_latents_std=float(t["final_latents"].std()),
                image_mean=float(t["image_u8"].float().mean()),
                image_std=float(t["image_u8"].float().std()),
                image_sha256=sha(t["image_u8"]),
                noise_1e6_effect={
                    "final_latents_max_abs": dl,
                    "pixels_changed": int((du > 0).sum()),
                    "pixel_max": int(du.max()),
                    "pixels": du.numel(),
                },
            )
            res.append(rec)
            print(
                "  %-28s lat std %.2f img %.0f+-%.0f sat %.2f sens %.1e px %d/%d"
                % (
                    k["name"],
                    rec["final_latents_std"],
                    rec["image_mean"],
                    rec["image_std"],
                    float(((t["image_u8"] == 0) | (t["image_u8"] == 255)).float().mean()),
                    dl,
                    int((du > 0).sum()),
                    int(du.max()),
                ),
                flush=True,
            )
        dump_cases(
            {"model": c["model"], "diffusers": diffusers.__version__, "torch": torch.__version__},
            res,
            f"{out}/cases.json",
        )


main()
