"""Trim a full CLIPModel to what the text encoder's own folder does not hold already.

usage: trim_clip.py FULL_CLIP_DIR TEXT_ENCODER_DIR OUT.safetensors

The default model ships CLIP for its image side: scores and search compare pictures with prompts. The text tower of that
CLIP is the standard text encoder, tensor for tensor, so a second copy would only make the program 23 MB larger. This
script checks that claim byte by byte, stops if it is wrong, and writes the rest: the vision tower, both projections and
the logit scale. Needs nothing but Python's standard library.
"""

import json
import struct
import sys

TEXT_TOWER = "text_model."
KEPT = ("vision_model.", "visual_projection.weight", "text_projection.weight", "logit_scale")


def read_safetensors(path):
    """{name: (dtype, shape, bytes)} in the file's order, and the file's metadata."""
    with open(path, "rb") as f:
        (header_size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(header_size))
        data = f.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        tensors[name] = (t["dtype"], t["shape"], data[begin:end])
    return tensors, metadata


def write_safetensors(path, tensors, metadata):
    """Tensors one after the other, the header padded with spaces so that the data starts at a multiple of 8."""
    header, offset = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            f.write(data)


def differing(tower, encoder):
    """Names of the tensors that one side lacks or that are not the same bytes on both."""
    return sorted(name for name in tower.keys() | encoder.keys() if tower.get(name) != encoder.get(name))


def main(clip_dir, encoder_dir, out):
    clip, metadata = read_safetensors(f"{clip_dir}/model.safetensors")
    encoder, _ = read_safetensors(f"{encoder_dir}/model.safetensors")
    tower = {name: t for name, t in clip.items() if name.startswith(TEXT_TOWER)}
    if wrong := differing(tower, encoder):
        sys.exit(f"the text tower is not the text encoder: {', '.join(wrong)}")
    kept = {name: t for name, t in clip.items() if name.startswith(KEPT)}
    if lost := sorted(clip.keys() - tower.keys() - kept.keys()):
        sys.exit(f"neither text tower nor kept: {', '.join(lost)}")
    write_safetensors(out, kept, metadata)
    print(f"{len(tower)} tensors equal the text encoder's and were left out, {len(kept)} kept in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
