"""Write the delivered folder (fp16 safetensors, diffusers layout).

usage: export.py WORK MODEL_DIR [ROBUST_NAME]
"""

import json
import os
import shutil
import sys

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPImageProcessor, CLIPModel, CLIPTextModel

work, out = sys.argv[1:3]
robust = sys.argv[3] if len(sys.argv) > 3 else None
os.makedirs(out, exist_ok=True)


def text_model(src):
    clip = CLIPModel.from_pretrained(src)
    t = CLIPTextModel(clip.config.text_config)
    t.text_model.load_state_dict(clip.text_model.state_dict())
    t.config.architectures = ["CLIPTextModel"]
    return t


def put(model, name):
    model.half().save_pretrained(f"{out}/{name}", safe_serialization=True)
    path = f"{out}/{name}/config.json"
    cfg = json.load(open(path))
    cfg.pop("_name_or_path", None)
    for c in (cfg, cfg.get("text_config", {})):
        if "max_position_embeddings" in c:  # defaults that readers other than transformers want spelt out
            c.update(bos_token_id=49406, eos_token_id=49407)
    json.dump(cfg, open(path, "w"), indent=2)


shutil.copytree(f"{work}/tokenizer", f"{out}/tokenizer", dirs_exist_ok=True)
put(CLIPModel.from_pretrained(f"{work}/clip"), "clip")
put(text_model(f"{work}/clip"), "text_encoder")
if robust:
    put(text_model(f"{work}/clip_{robust}"), "text_encoder_robust")
put(AutoencoderKL.from_pretrained(f"{work}/vae"), "vae")
if os.path.exists(f"{work}/unet_ema/config.json"):
    put(UNet2DConditionModel.from_pretrained(f"{work}/unet_ema"), "unet")
DPMSolverMultistepScheduler(
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
    num_train_timesteps=1000,
    prediction_type="v_prediction",
    algorithm_type="dpmsolver++",
    solver_order=2,
    solver_type="midpoint",
    timestep_spacing="leading",
    steps_offset=1,
).save_pretrained(f"{out}/scheduler")
proc = CLIPImageProcessor(
    size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
)
proc.save_pretrained(f"{out}/feature_extractor")
proc.save_pretrained(f"{out}/clip")
json.dump(
    {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.39.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    open(f"{out}/model_index.json", "w"),
    indent=2,
)
total = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(out) for f in fs)
print(f"exported, {total / 1e6:.1f} MB in all")
