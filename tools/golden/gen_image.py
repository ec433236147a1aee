"""image/: CLIP preprocessing, VaeImageProcessor, and CLIPScore on the tiny CLIPModel.

usage: gen_image.py CONFIG OUTDIR MODELSDIR
Source pictures are PNG (exact) made by sdlib.picture; sizes are [width, height]."""

import sys

import numpy as np
import PIL
import PIL.Image
import torch
from common import args, dump, f32list, sha
from sdlib import maskpic, picture
from safetensors.torch import save_file
from diffusers.image_processor import VaeImageProcessor
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast


def main():
    cfg, out = args()
    c, md = cfg["image"], sys.argv[3]
    proc = (
        CLIPImageProcessor()
    )  # its defaults are openai/clip-vit-*: shortest edge 224 bicubic, centre crop 224, /255, CLIP mean/std
    dump(proc.to_dict(), f"{out}/preprocessor_config.json", indent=1)
    model = CLIPModel.from_pretrained(f"{md}/{c['clip']}", torch_dtype=torch.float32).eval()
    d = cfg["tokenizer_dir"]
    tk = CLIPTokenizerFast(
        tokenizer_file=f"{d}/tokenizer.json",
        vocab_file=f"{d}/vocab.json",
        merges_file=f"{d}/merges.txt",
        pad_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=77,
    )
    t, info, pv = {}, {"pillow": PIL.__version__, "images": []}, []
    for i, (w, h) in enumerate(c["sizes"]):
        im = PIL.Image.fromarray(picture(w, h, c["seed"] + i))
        f = f"clip_{i}_{w}x{h}.png"
        im.save(f"{out}/{f}", optimize=True)
        assert np.array_equal(np.asarray(PIL.Image.open(f"{out}/{f}")), picture(w, h, c["seed"] + i))
        x = proc(im, return_tensors="pt").pixel_values[0]
        pv.append(x)
        # the uint8 image between resize+crop and rescale: exact (resizing is PIL's fixed-point bicubic, rounded to uint8)
        mean, std = torch.tensor(proc.image_mean).view(3, 1, 1), torch.tensor(proc.image_std).view(3, 1, 1)
        u8 = ((x.double() * std + mean) * 255).round()
        assert float(((x.double() * std + mean) * 255 - u8).abs().max()) < 1e-3
        u8 = u8.to(torch.uint8).permute(1, 2, 0).contiguous()
        if i in c["keep_u8"]:
            t[f"{i}.u8"] = u8
        e = {"i": i, "file": f, "resized_to_wh": None, "u8_sha256": sha(u8), "u8_mean": float(u8.double().mean())}
        s = 224 / min(w, h)
        e["resized_to_wh"] = [224 if w <= h else int(224 * w / h), 224 if h <= w else int(224 * h / w)]
        e["pixel_values"] = {
            "shape": list(x.shape),
            "first8_of_each_channel": [f32list(x[k].flatten()[:8]) for k in range(3)],
            "mean": float(x.double().mean()),
            "std": float(x.double().std()),
        }
        info["images"].append(e)
    with torch.no_grad():
        pix = torch.stack(pv)
        tok = tk(c["texts"], padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        o = model(
            input_ids=tok.input_ids, pixel_values=pix, attention_mask=tok.attention_mask, output_hidden_states=True
        )
        o2 = model(input_ids=tok.input_ids, pixel_values=pix)
        vo = model.vision_model(pix, output_hidden_states=True)
        ie, te = model.get_image_features(pix), model.get_text_features(**tok)
    cos = torch.nn.functional.normalize(ie, dim=-1) @ torch.nn.functional.normalize(te, dim=-1).T
    t.update(
        {
            "input_ids": tok.input_ids.int(),
            "attention_mask": tok.attention_mask.int(),
            "image_embeds_raw": ie,
            "text_embeds_raw": te,
            "image_embeds": o.image_embeds,
            "text_embeds": o.text_embeds,
            "logits_per_image": o.logits_per_image,
            "logits_per_image_without_attention_mask": o2.logits_per_image,
            "cosine": cos,
            "vision_last_hidden_state": vo.last_hidden_state,
            "vision_pooler_output": vo.pooler_output,
        }
    )
    for k in range(len(vo.hidden_states)):
        t[f"vision_hidden_states.{k}"] = vo.hidden_states[k][:2].clone()  # of images 0 and 1
    t["pixel_values.2.rows0-15"] = pix[2, :, :16].clone()
    info["texts"] = c["texts"]
    info["logit_scale_exp"] = float(model.logit_scale.exp())
    info["clipscore"] = {
        "definition": "w * max(cos(image, text), 0), w = 2.5 (Hessel et al. 2021); 'times100' is max(100*cos, 0) (torchmetrics)",
        "w2.5": [f32list(2.5 * r.clamp(min=0)) for r in cos],
        "times100": [f32list((100 * r).clamp(min=0)) for r in cos],
    }
    info["retrieval"] = {
        "text_for_each_image": cos.argmax(1).tolist(),
        "image_for_each_text": cos.argmax(0).tolist(),
        "smallest_margin": float((cos.topk(2, 1).values[:, 0] - cos.topk(2, 1).values[:, 1]).min()),
    }
    save_file({k: v.contiguous().clone() for k, v in t.items()}, f"{out}/clip.safetensors")

    vp, v = VaeImageProcessor(vae_scale_factor=8), {}
    vi = {"preprocess": [], "postprocess": {}, "mask": []}
    for i, (w, h) in enumerate(c["vae_sizes"]):
        im = PIL.Image.fromarray(picture(w, h, c["seed"] + 100 + i))
        im.save(f"{out}/vae_{i}_{w}x{h}.png", optimize=True)
        x = vp.preprocess(im)  # lanczos to multiples of 8, then x/255*2-1
        v[f"pre.{i}"] = x
        y = vp.preprocess(im, height=h // 16 * 8 + 16, width=w // 16 * 8 + 24)
        v[f"pre_resized.{i}"] = y
        vi["preprocess"].append(
            {"i": i, "file": f"vae_{i}_{w}x{h}.png", "default_shape": list(x.shape), "resized_shape": list(y.shape)}
        )
        mp = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
        mk = PIL.Image.fromarray(maskpic(w, h, "gray"))
        mk.save(f"{out}/mask_{i}_{w}x{h}.png")
        v[f"mask.{i}"] = mp.preprocess(mk)
        vi["mask"].append({"i": i, "file": f"mask_{i}_{w}x{h}.png", "shape": list(v[f"mask.{i}"].shape)})
    # postprocess: (x/2+0.5).clamp(0,1) -> float32 *255 -> round half to even -> uint8
    k = torch.arange(256, dtype=torch.float64)
    edge = torch.cat(
        [(k + 0.5) / 255 * 2 - 1, k / 255 * 2 - 1, torch.tensor([-1.5, -1.0, 1.0, 1.5, 0.0, -0.0, 1e-9])]
    ).float()
    g = torch.Generator().manual_seed(c["seed"])
    vals = torch.cat(
        [
            edge,
            torch.nextafter(edge, torch.full_like(edge, 9)),
            torch.nextafter(edge, torch.full_like(edge, -9)),
            torch.randn(3 * 64 * 64 - 3 * len(edge), generator=g) * 0.7,
        ]
    )
    x = vals.view(1, 3, 64, 64)
    v["post.in"] = x
    v["post.u8"] = torch.from_numpy(np.asarray(vp.postprocess(x, output_type="pil")[0]).copy())
    v["post.np"] = torch.from_numpy(vp.postprocess(x, output_type="np"))
    own = torch.round((x / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)[0].permute(1, 2, 0)
    assert torch.equal(own, v["post.u8"])
    trunc = ((x / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)[0].permute(1, 2, 0)
    vi["postprocess"] = {
        "rule": "round_half_even(clamp(x/2+0.5,0,1)*255) in float32",
        "values_that_truncation_would_change": int((trunc != own).sum()),
        "of": own.numel(),
    }
    v.pop("post.np")
    save_file({a: b.contiguous().clone() for a, b in v.items()}, f"{out}/vae_image_processor.safetensors")
    dump({"clip": info, "vae": vi}, f"{out}/info.json", indent=1)
    print(info["retrieval"], info["clipscore"]["w2.5"][:2], vi["postprocess"])


main()
