"""Cosines between the reference pictures of the default model and their prompts, by its CLIP in transformers.

usage: gen_judge.py CLIP_DIR TOKENIZER_DIR REFS.json REFS.safetensors OUT.json
CLIP_DIR is the whole CLIPModel, text tower included; REFS are gen_default_model.py's.
"""

import json
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

clip, tokenizer, refs, pictures, out = sys.argv[1:]
torch.set_num_threads(1)
cases, tensors = json.load(open(refs))["cases"], load_file(pictures)
model = CLIPModel.from_pretrained(clip, dtype=torch.float32).eval()
# The pixels lie plane by plane under a shape [H,W,3].
planes = [tensors[c["key"] + ".image_u8"] for c in cases]
images = [Image.fromarray(np.ascontiguousarray(p.reshape(3, *p.shape[:2]).transpose(1, 2, 0))) for p in planes]
texts = [c["prompt"] for c in cases[: len(cases) // 2]]  # the same for both encoders
with torch.no_grad():
    pixels = CLIPImageProcessor.from_pretrained(clip)(images, return_tensors="pt")
    image = model.get_image_features(**pixels)
    ids = CLIPTokenizerFast.from_pretrained(tokenizer)(texts, padding="max_length", return_tensors="pt")
    text = model.get_text_features(**ids)
image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text))
json.dump(
    {
        "pictures": [c["key"] for c in cases],
        "texts": texts,
        "cosine": [[float(v) for v in row] for row in image @ text.T],
        "between_pictures": [[float(v) for v in row] for row in image @ image.T],
    },
    open(out, "w"),
)
