"""Images from the fp32 weights against images from the delivered fp16 ones.

usage: check_fp16.py WORK MODEL_DIR OUT.json
"""

import json
import sys

import numpy as np
import torch
from transformers import CLIPModel, CLIPTextModel

from generate import Generator

work, m, out = sys.argv[1:4]
torch.set_num_threads(1)
clip = CLIPModel.from_pretrained(f"{work}/clip")
t = CLIPTextModel(clip.config.text_config)
t.text_model.load_state_dict(clip.text_model.state_dict())
t.save_pretrained(f"{work}/text_encoder_fp32")
prompts = [p["prompt"] for p in json.load(open(f"{m}/eval/prompts.json"))["prompts"][:12]]
a = Generator(f"{m}/tokenizer", f"{work}/unet_ema", f"{work}/vae", {"standard": f"{work}/text_encoder_fp32"})(
    prompts, cfg=3.0, amp=False
)
b = Generator(f"{m}/tokenizer", f"{m}/unet", f"{m}/vae", {"standard": f"{m}/text_encoder"})(prompts, cfg=3.0, amp=False)
d = a.astype(np.float32) - b.astype(np.float32)
r = {
    "images": len(a),
    "mean_abs_diff_of_255": float(np.abs(d).mean()),
    "max_abs_diff_of_255": float(np.abs(d).max()),
    "psnr": float(10 * np.log10(255**2 / max((d**2).mean(), 1e-9))),
}
json.dump(r, open(out, "w"), indent=1)
print(r)
