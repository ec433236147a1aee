"""Write the CLIP tokenizer (49,408 entries) from the BPE merges shipped in PyPI open_clip_torch.

usage: make_tokenizer.py bpe_simple_vocab_16e6.txt.gz OUT_DIR
"""

import gzip
import json
import os
import sys

from transformers import CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

src, out = sys.argv[1:3]
os.makedirs(out, exist_ok=True)
lines = gzip.open(src).read().decode("utf-8").split("\n")
merges = lines[1 : 49152 - 256 - 2 + 1]
vocab = list(bytes_to_unicode().values())
vocab += [v + "</w>" for v in vocab]
vocab += ["".join(m.split()) for m in merges]
vocab += ["<|startoftext|>", "<|endoftext|>"]
assert len(vocab) == 49408
json.dump({t: i for i, t in enumerate(vocab)}, open(f"{out}/vocab.json", "w", encoding="utf-8"), ensure_ascii=False)
open(f"{out}/merges.txt", "w", encoding="utf-8").write("#version: 0.2\n" + "\n".join(merges) + "\n")
tok = CLIPTokenizer(f"{out}/vocab.json", f"{out}/merges.txt", model_max_length=77, pad_token="<|endoftext|>")
tok.save_pretrained(out)
