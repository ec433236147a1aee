"""Reference pictures of the default model by diffusers, from the public prompts: final latents and RGB, both encoders.

usage: gen_default_model.py MODEL_DIR PROMPTS.json OUT.safetensors OUT.json
"""

import json
import sys

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, DPMSolverMultistepScheduler, EulerDiscreteScheduler, DDIMScheduler
from safetensors.numpy import save_file
from transformers import CLIPTextModel

model, prompts, out, meta = sys.argv[1:]
rows = json.load(open(prompts))
rows = rows if isinstance(rows, list) else next(v for v in rows.values() if isinstance(v, list))
texts = [r if isinstance(r, str) else r.get("prompt") or r.get("caption") or r["text"] for r in rows]
torch.set_num_threads(1)
tensors, cases = {}, []
KINDS = [
    ("dpmpp_2m", DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    ("euler", EulerDiscreteScheduler, {}),
    ("ddim", DDIMScheduler, {}),
]
for enc in ("standard", "robust"):
    folder = "text_encoder" if enc == "standard" else "text_encoder_robust"
    te = CLIPTextModel.from_pretrained(f"{model}/{folder}", torch_dtype=torch.float32)
    pipe = StableDiffusionPipeline.from_pretrained(
        model, text_encoder=te, torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    for i, text in enumerate(texts[1:70:9]):
        name, cls, kw = KINDS[i % 3]
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **kw)
        seed = 4200 + i
        cfg = {
            k: v
            for k, v in dict(pipe.scheduler.config).items()
            if not k.startswith("_") and not isinstance(v, (list, tuple)) or k == "trained_betas" and v
        }
        args = dict(num_inference_steps=14 + i, guidance_scale=3.0 + i)
        g = lambda: torch.Generator("cpu").manual_seed(seed)
        lat = pipe(text, generator=g(), output_type="latent", **args).images
        img = pipe(text, generator=g(), output_type="np", **args).images
        key = f"{enc}.{i}"
        tensors[key + ".latents"] = lat.numpy()
        tensors[key + ".image_u8"] = (img[0] * 255).round().astype(np.uint8)
        cases.append(
            {
                "key": key,
                "prompt": text,
                "encoder": enc,
                "seed": seed,
                "steps": args["num_inference_steps"],
                "guidance_scale": args["guidance_scale"],
                "scheduler": cls.__name__,
                "scheduler_config": {
                    k: v for k, v in cfg.items() if v is not None and not (isinstance(v, float) and not np.isfinite(v))
                },
            }
        )
save_file(tensors, out)
json.dump({"cases": cases}, open(meta, "w"), indent=1)
print(len(cases), "cases")
