"""Helpers shared by the generators. Every generator is called as

    python gen_X.py CONFIG.json OUTDIR

CONFIG.json holds all seeds, prompts, sizes and network widths, so the same code
makes other sets too. Nothing here reads the
clock, the network or the machine's name."""

import hashlib
import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
import numpy as np
import torch

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True, warn_only=True)


def args():
    cfg = json.load(open(sys.argv[1]))
    out = sys.argv[2]
    os.makedirs(out, exist_ok=True)
    return cfg, out


def f32list(t):
    """float32 tensor -> list of Python floats; shortest decimal that round-trips float32."""
    a = t.detach().cpu().numpy() if torch.is_tensor(t) else np.asarray(t)
    a = a.astype(np.float32).reshape(-1)
    return [num(x) for x in a]


def num(x):
    x = np.float32(x)
    if np.isnan(x):
        return "nan"
    if np.isinf(x):
        return "inf" if x > 0 else "-inf"
    if x == 0:
        return 0.0
    return float(np.format_float_scientific(x, unique=True))  # parses back to the same float32


def dump(obj, path, indent=None):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    s = json.dumps(obj, ensure_ascii=True, indent=indent, separators=(",", ":") if indent is None else None)
    with open(path, "w") as f:
        f.write(s + "\n")
    json.load(open(path))


def dump_cases(head, cases, path):
    """A JSON object whose 'cases' come one per line (diffs and grep stay usable)."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as f:
        f.write("{" + json.dumps(head)[1:-1] + (",\n" if head else "\n") + '"cases":[\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        f.write("\n]}\n")
    json.load(open(path))


def sha(t):
    a = t.detach().cpu().contiguous().numpy() if torch.is_tensor(t) else np.ascontiguousarray(t)
    return hashlib.sha256(a.tobytes()).hexdigest()
