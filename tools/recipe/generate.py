"""Text to image with the trained parts, and contact sheets."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from PIL import Image, ImageDraw
from transformers import CLIPTextModel, CLIPTokenizerFast


class Generator:
    def __init__(self, tokenizer, unet, vae, text):
        self.tok = CLIPTokenizerFast.from_pretrained(tokenizer)
        self.unet = UNet2DConditionModel.from_pretrained(unet).eval().float()
        self.vae = AutoencoderKL.from_pretrained(vae).eval().float()
        self.text = {k: CLIPTextModel.from_pretrained(v).eval().float() for k, v in text.items()}

    @torch.no_grad()
    def __call__(self, prompts, which="standard", steps=25, cfg=5.0, seeds=None, amp=True, spacing="leading", batch=32):
        seeds = list(range(len(prompts))) if seeds is None else seeds
        out = [
            self.run(prompts[i : i + batch], which, steps, cfg, seeds[i : i + batch], amp, spacing)
            for i in range(0, len(prompts), batch)
        ]
        return np.concatenate(out)

    def run(self, prompts, which, steps, cfg, seeds, amp, spacing):
        ids = self.tok(
            list(prompts) + [""], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        ).input_ids
        h = self.text[which](input_ids=ids).last_hidden_state
        cond, null = h[:-1], h[-1:].expand(len(prompts), -1, -1)
        sched = DPMSolverMultistepScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            algorithm_type="dpmsolver++",
            solver_order=2,
            timestep_spacing=spacing,
            steps_offset=1,
        )
        sched.set_timesteps(steps)
        x = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds])
        both = torch.cat([null, cond])
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            for t in sched.timesteps:
                v = self.unet(torch.cat([x, x]), t, both, return_dict=False)[0].float()
                u, c = v.chunk(2)
                x = sched.step(u + cfg * (c - u), t, x).prev_sample
            y = self.vae.decode(x / self.vae.config.scaling_factor).sample.float()
        return ((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def sheet(rows, path, labels=None, row_names=None, scale=1):
    """rows: list of arrays [n, 64, 64, 3]; labels: texts under each column (or, as a list of lists, each cell)."""
    s, lab = 64 * scale, 12 if labels else 0
    left = 110 if row_names else 0
    n = max(len(r) for r in rows)
    im = Image.new("RGB", (left + n * s, len(rows) * (s + lab)), "white")
    d = ImageDraw.Draw(im)
    for i, r in enumerate(rows):
        if row_names:
            d.text((4, i * (s + lab) + s // 2 - 6), row_names[i], fill="black")
        for j, a in enumerate(r):
            im.paste(Image.fromarray(a).resize((s, s), Image.NEAREST), (left + j * s, i * (s + lab)))
            if labels:
                t = labels[i][j] if isinstance(labels[i], (list, tuple)) else labels[j]
                d.text((left + j * s + 2, i * (s + lab) + s), t[: max(1, s // 6)], fill="black")
    im.save(path, optimize=True)
