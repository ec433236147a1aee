"""models/<name>/: tiny pipelines in the diffusers layout.

Weights: a fixed seed, then (UNets only) a short Adam run that
makes the network a rough denoiser, so that latents stay bounded through a sampling run, as a real model's do."""

import json
import math
import os
import shutil

import torch
from common import args, dump
from safetensors.torch import load_file, save_file
import diffusers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def init(m, seed, gains=()):
    """Every parameter from one generator, in named_parameters() order."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for n, p in m.named_parameters():
            r = torch.randn(p.shape, generator=g)
            k = 1.0
            for pat, gain in gains:
                if pat in n:
                    k = gain
            if "embedding" in n and "time" not in n and "add_" not in n and "patch" not in n:
                v = r * k * (1.0 if "token" in n else 0.3)
            elif p.ndim == 0:
                v = torch.tensor(math.log(1 / 0.07)) + 0 * r
            elif p.ndim == 1:
                isnorm = "norm" in n or "layernorm" in n or "layrnorm" in n
                v = (1 + 0.15 * r) if isnorm and n.endswith("weight") else 0.1 * r
            else:
                v = r * k / math.sqrt(p[0].numel())
            p.copy_(v)
    return m


@torch.no_grad()
def centre(m, seed):
    """Project the mean feature out of both projections: else random towers put all embeddings into one narrow cone."""
    from sdlib import picture

    g = torch.Generator().manual_seed(seed + 1)
    ids = torch.full((48, 77), 49407)
    ids[:, 0] = 49406
    for b in range(48):
        n = 1 + b % 12
        ids[b, 1 : n + 1] = torch.randint(300, 49000, (n,), generator=g)
    pix = torch.stack(
        [torch.from_numpy(picture(224, 224, 777 + i)).permute(2, 0, 1).float() / 127.5 - 1 for i in range(24)]
    )
    for f, proj in (
        (m.text_model(ids).pooler_output, m.text_projection),
        (m.vision_model(pix).pooler_output, m.visual_projection),
    ):
        mu = torch.nn.functional.normalize(f.mean(0), dim=0)
        proj.weight.copy_(proj.weight - (proj.weight @ mu)[:, None] * mu[None])


def to_half(m):
    with torch.no_grad():
        for p in m.parameters():
            p.copy_(p.half().float())
    return m


def text(c, cls=CLIPTextModel):
    cfg = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=c["width"],
        intermediate_size=c["inter"],
        num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"],
        max_position_embeddings=77,
        hidden_act=c["act"],
        projection_dim=c["proj"],
        bos_token_id=49406 if c["eos"] != 2 else 0,
        eos_token_id=c["eos"],
        pad_token_id=1,
    )
    return init(cls(cfg), c["seed"], [("q_proj", 1.6), ("k_proj", 1.6), ("out_proj", 0.7), ("fc2", 0.9)]).eval()


def vae(c):
    v = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=c["ch"],
        down_block_types=["DownEncoderBlock2D"] * len(c["ch"]),
        up_block_types=["UpDecoderBlock2D"] * len(c["ch"]),
        layers_per_block=c["layers"],
        norm_num_groups=c["groups"],
        scaling_factor=c["scale"],
        sample_size=c["size"],
        force_upcast=c.get("force_upcast", True),
    )
    init(v, c["seed"], [("decoder.conv_out", 0.45)])
    with torch.no_grad():
        v.quant_conv.bias[4:] = v.quant_conv.bias[4:] - 3.0
        v.quant_conv.weight[4:] *= 0.5
    return v.eval()


def unet(c):
    return init(
        UNet2DConditionModel(**c["config"]),
        c["seed"],
        [
            ("to_q", 1.5),
            ("to_k", 1.5),
            ("to_out", 0.8),
            ("conv2", 0.7),
            ("proj_out", 0.7),
            ("conv_out", 0.6),
            ("time_emb_proj", c.get("time_gain", 0.5)),
        ],
    ).eval()


def train(u, c, ctx_dim, pooled_dim, xl):
    """Denoiser on synthetic latents whose mean and slope depend on the conditioning; deterministic on one thread."""
    torch.manual_seed(c["seed"] + 9)
    ac = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    P = torch.randn(ctx_dim, 8) / math.sqrt(ctx_dim)
    opt = torch.optim.Adam(u.parameters(), lr=2e-3)
    sz, last = c["latent"], 0.0
    ramp = torch.linspace(-1, 1, sz)
    for i in range(c["iters"]):
        B = 8
        ctx = torch.randn(B, 77, ctx_dim) * 0.7 + torch.randn(B, 1, ctx_dim) * 0.7
        f = ctx.mean(1) @ P * 1.2
        x0 = 0.5 * torch.randn(B, 4, sz, sz) + f[:, :4, None, None] + f[:, 4:, None, None] * ramp.view(1, 1, 1, sz)
        t = torch.randint(0, 1000, (B,))
        a = ac[t].view(B, 1, 1, 1)
        e = torch.randn_like(x0)
        x = a.sqrt() * x0 + (1 - a).sqrt() * e
        y = a.sqrt() * e - (1 - a).sqrt() * x0 if c["v"] else e
        inp = x
        if c["config"]["in_channels"] == 9:
            m = (torch.rand(B, 1, sz, sz) < 0.5).float()
            inp = torch.cat([x, m, x0 * (1 - m)], 1)
        kw = {}
        if xl:
            kw["added_cond_kwargs"] = {
                "text_embeds": torch.randn(B, pooled_dim),
                "time_ids": torch.randint(0, 128, (B, 6)).float(),
            }
        loss = (u(inp, t, encoder_hidden_states=ctx, **kw).sample - y).square().mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(u.parameters(), 1.0)
        opt.step()
        last = float(loss)
    u.zero_grad(set_to_none=True)
    for p in u.parameters():
        p.grad = None
    return last


def save(m, d, half):
    m.save_pretrained(d)
    f = [x for x in os.listdir(d) if x.endswith(".safetensors")][0]
    if half:
        t = {k: v.half() if v.is_floating_point() else v for k, v in load_file(f"{d}/{f}").items()}
        save_file(t, f"{d}/{f}", metadata={"format": "pt"})
    conf = json.load(open(f"{d}/config.json"))
    conf.pop("_name_or_path", None)
    for k in ("dtype", "torch_dtype"):
        if k in conf:
            conf[k] = "float16" if half else "float32"
    dump(conf, f"{d}/config.json", indent=2)


def tok(d, src, pad):
    os.makedirs(d, exist_ok=True)
    conf = json.load(open(f"{src}/tokenizer_config.json"))
    conf["pad_token"] = pad
    dump(conf, f"{d}/tokenizer_config.json", indent=2)
    sp = json.load(open(f"{src}/special_tokens_map.json"))
    sp["pad_token"] = pad
    dump(sp, f"{d}/special_tokens_map.json", indent=2)


def main():
    cfg, out = args()
    for c in cfg["models"]:
        d = f"{out}/{c['name']}"
        shutil.rmtree(d, ignore_errors=True)
        os.makedirs(d)
        half = c["half"]
        if c["kind"] == "clip":
            t = c["text"]
            cc = CLIPConfig(
                text_config=dict(
                    vocab_size=49408,
                    hidden_size=t["width"],
                    intermediate_size=t["inter"],
                    num_hidden_layers=t["layers"],
                    num_attention_heads=t["heads"],
                    hidden_act=t["act"],
                    projection_dim=c["proj"],
                    eos_token_id=t["eos"],
                    bos_token_id=49406,
                    pad_token_id=1,
                ),
                vision_config=dict(c["vision"], projection_dim=c["proj"]),
                projection_dim=c["proj"],
                logit_scale_init_value=math.log(1 / 0.07),
            )
            m = init(CLIPModel(cc), c["seed"], [("q_proj", 1.6), ("k_proj", 1.6), ("out_proj", 0.7)]).eval()
            centre(m, c["seed"])
            if half:
                to_half(m)
            save(m, d, half)
            tok(d, cfg["tokenizer_dir"], "<|endoftext|>")
            print(c["name"], "params", sum(p.numel() for p in m.parameters()))
            continue
        xl = c["kind"] == "sdxl"
        te = text(c["text"])
        parts = {"text_encoder": te, "vae": vae(c["vae"]), "unet": unet(c["unet"])}
        dim = c["text"]["width"]
        if xl:
            parts["text_encoder_2"] = text(c["text2"], CLIPTextModelWithProjection)
            dim += c["text2"]["width"]
        loss = train(parts["unet"], c["unet"], dim, c.get("text2", {}).get("proj", 0), xl)
        for n, m in parts.items():
            h = half is True or (isinstance(half, list) and n in half)
            if h:
                to_half(m)
            save(m, f"{d}/{n}", h)
        sc = dict(c["scheduler"])
        os.makedirs(f"{d}/scheduler")
        dump(sc, f"{d}/scheduler/scheduler_config.json", indent=2)
        tok(f"{d}/tokenizer", cfg["tokenizer_dir"], "<|endoftext|>" if c["kind"] != "sd21" else "!")
        idx = {
            "_class_name": c["pipeline"],
            "_diffusers_version": diffusers.__version__,
            "scheduler": ["diffusers", sc["_class_name"]],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
        if xl:
            tok(f"{d}/tokenizer_2", cfg["tokenizer_dir"], "!")
            idx.update(
                text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
                tokenizer_2=["transformers", "CLIPTokenizer"],
                force_zeros_for_empty_prompt=True,
            )
        else:
            idx.update(feature_extractor=[None, None], safety_checker=[None, None], requires_safety_checker=False)
        dump(idx, f"{d}/model_index.json", indent=2)
        print(
            c["name"],
            {n: sum(p.numel() for p in m.parameters()) for n, m in parts.items()},
            "train loss",
            round(loss, 4),
            flush=True,
        )


main()
