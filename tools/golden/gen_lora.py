"""lora/<model>/: one LoRA in kohya and diffusers/peft naming, some merged weights and the networks' outputs with it.

usage: gen_lora.py CONFIG OUTDIR MODELSDIR
Effective weight: W + scale * (alpha/rank) * up @ down (Linear, 1x1 and 3x3 conv).
The outputs are computed from weights merged here in plain torch and checked against diffusers' load_lora_weights."""

import json
import os
import re
import sys
import warnings

import torch
from common import args, dump
from sdlib import load, toks
from safetensors.torch import save_file
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

warnings.filterwarnings("ignore")
ATT = re.compile(r"(attn\d\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)|\.proj_in|\.proj_out)$")
CONV = re.compile(r"(resnets\.\d+\.(conv1|conv2|conv_shortcut|time_emb_proj)|samplers\.0\.conv|^conv_in|^conv_out)$")
TE = re.compile(r"(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.fc[12])$")


def targets(m, pats):
    return [
        n
        for n, k in m.named_modules()
        if isinstance(k, (torch.nn.Linear, torch.nn.Conv2d)) and any(p.search(n) for p in pats)
    ]


def make(mods, rank, alpha, g, size):
    o = {}
    for n, m in mods:
        w = m.weight
        if w.ndim == 4:
            dn = torch.randn(rank, w.shape[1], *w.shape[2:], generator=g)
            up = torch.randn(w.shape[0], rank, 1, 1, generator=g)
        else:
            dn, up = torch.randn(rank, w.shape[1], generator=g), torch.randn(w.shape[0], rank, generator=g)
        dn = (dn / dn[0].numel() ** 0.5).half().float()
        up = (up * size * rank / alpha / rank**0.5).half().float()
        o[n] = (up, dn, alpha, rank)
    return o


def delta(up, dn, alpha, rank):
    return (alpha / rank) * (up.flatten(1) @ dn.flatten(1)).reshape(up.shape[0], *dn.shape[1:])


def sgm_name(n, layers):
    """diffusers block names -> the SGM numbering that kohya's SDXL files use."""
    m = re.match(r"down_blocks\.(\d+)\.(attentions|resnets|downsamplers)\.(\d+)\.(.*)", n)
    if m:
        b, kind, i, rest = int(m[1]), m[2], int(m[3]), m[4]
        k = 1 + b * (layers + 1) + (layers if kind == "downsamplers" else i)
        return f"input_blocks_{k}_{1 if kind == 'attentions' else 0}_{'op' if kind == 'downsamplers' else rest}"
    m = re.match(r"mid_block\.(attentions|resnets)\.(\d+)\.(.*)", n)
    if m:
        return f"middle_block_{1 if m[1] == 'attentions' else 2 * int(m[2])}_{m[3]}"
    m = re.match(r"up_blocks\.(\d+)\.(attentions|resnets)\.(\d+)\.(.*)", n)
    if m:
        return f"output_blocks_{int(m[1]) * (layers + 1) + int(m[3])}_{1 if m[2] == 'attentions' else 0}_{m[4]}"
    return n


def main():
    cfg, out0 = args()
    md = sys.argv[3]
    for c in cfg["loras"]:
        out = f"{out0}/{c['name']}"
        os.makedirs(out, exist_ok=True)
        d = f"{md}/{c['model']}"
        idx, p = load(d)
        tk = toks(d, cfg["tokenizer_dir"])
        xl = "text_encoder_2" in p
        g = torch.Generator().manual_seed(c["seed"])
        u = p["unet"]
        sets = {
            "unet": make(
                [(n, u.get_submodule(n)) for n in targets(u, [ATT, CONV] if c["conv"] else [ATT])],
                c["rank"],
                c["alpha"],
                g,
                c["size"],
            )
        }
        for t in ("text_encoder", "text_encoder_2"):
            if t in p and c["text"]:
                sets[t] = make(
                    [(n, p[t].get_submodule(n)) for n in targets(p[t], [TE])], c["rank"], c["alpha"], g, c["size"]
                )
        layers = u.config.layers_per_block
        ko, di = {}, {}
        for part, s in sets.items():
            pre = {
                "unet": "lora_unet_",
                "text_encoder": "lora_te1_" if xl else "lora_te_",
                "text_encoder_2": "lora_te2_",
            }[part]
            for n, (up, dn, al, r) in s.items():
                kn = pre + (sgm_name(n, layers) if part == "unet" and xl and c.get("sgm") else n).replace(".", "_")
                ko[kn + ".lora_up.weight"], ko[kn + ".lora_down.weight"], ko[kn + ".alpha"] = (
                    up.half(),
                    dn.half(),
                    torch.tensor(float(al)).half(),
                )
                # the diffusers layout has no alpha: alpha/rank is folded into lora_B (kept in float32: the product is exact)
                di[f"{part}.{n}.lora_A.weight"], di[f"{part}.{n}.lora_B.weight"] = dn.clone(), up * (al / r)
        save_file(
            {k: v.contiguous() for k, v in ko.items()},
            f"{out}/kohya.safetensors",
            metadata={
                "ss_network_dim": str(c["rank"]),
                "ss_network_alpha": str(c["alpha"]),
                "ss_network_module": "networks.lora",
            },
        )
        save_file({k: v.contiguous() for k, v in di.items()}, f"{out}/diffusers.safetensors", metadata={"format": "pt"})
        ids = {
            t: tk["tokenizer" + t[12:]](
                c["texts"], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
            ).input_ids
            for t in ("text_encoder", "text_encoder_2")
            if t in p
        }
        x = torch.randn(len(c["texts"]), u.config.in_channels, 8, 8, generator=g)
        res = {"x": x, **{f"{t}.input_ids": i.int() for t, i in ids.items()}}

        @torch.no_grad()
        def outputs(p):
            o, ctx = {}, []
            for t, i in ids.items():
                r = p[t](i, output_hidden_states=True)
                ctx.append(r.hidden_states[-2] if xl else r.last_hidden_state)
                o[f"{t}.out"] = ctx[-1]
                if xl and t == "text_encoder_2":
                    o[f"{t}.text_embeds"] = r.text_embeds
            kw = {}
            if xl:
                kw["added_cond_kwargs"] = {
                    "text_embeds": o["text_encoder_2.text_embeds"],
                    "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64.0]] * len(x)),
                }
            o["unet.out"] = p["unet"](x, 601, encoder_hidden_states=torch.cat(ctx, -1), **kw).sample
            return o

        base = outputs(p)
        res.update({"base." + k: v for k, v in base.items()})
        info = dict(c, timestep=601, modules={k: len(v) for k, v in sets.items()}, checks={})
        for scale in c["scales"]:
            idx, q = load(d)
            for part, s in sets.items():
                pick = list(s)[:: max(1, len(s) // 4)][:5]
                for n, v in s.items():
                    w = q[part].get_submodule(n).weight
                    with torch.no_grad():
                        w.add_(scale * delta(*v))
                    if scale == c["scales"][0] and n in pick:
                        res[f"merged.{part}.{n}.weight"] = w.detach().clone()
            o = outputs(q)
            res.update({f"scale{scale}." + k: v for k, v in o.items()})
            info["checks"][f"change by the LoRA at {scale}"] = {
                k: float((o[k] - base[k]).norm() / base[k].norm()) for k in o
            }
            for f in ("kohya", "diffusers"):
                idx, q = load(d)
                if xl:
                    pipe = StableDiffusionXLPipeline(**q, **tk, add_watermarker=False)
                else:
                    pipe = StableDiffusionPipeline(
                        **q, **tk, safety_checker=None, feature_extractor=None, requires_safety_checker=False
                    )
                try:
                    pipe.load_lora_weights(out, weight_name=f"{f}.safetensors", adapter_name="a")
                    pipe.set_adapters(["a"], [scale])
                    o2 = outputs({k: getattr(pipe, k) for k in q if hasattr(pipe, k)})
                    info["checks"][f"max abs difference to diffusers load_lora_weights, {f}, scale {scale}"] = {
                        k: float((o2[k] - o[k]).abs().max()) for k in o
                    }
                except Exception as e:
                    info["checks"][f"diffusers on {f}"] = type(e).__name__ + ": " + str(e)[:300]
        save_file({k: v.contiguous().clone() for k, v in res.items()}, f"{out}/outputs.safetensors")
        dump(info, f"{out}/info.json", indent=1)
        print(c["name"], json.dumps(info["checks"], indent=0)[:2500], flush=True)


main()
