"""Writes texts on which Unicode versions and normalisation show, with the ids of the reference tokenizer.

usage: pip install transformers==4.57.6 && python vectors.py TOKENIZER_DIR [COUNT [SEED]] > unicode.jsonl
TOKENIZER_DIR holds vocab.json and merges.txt. One object a line: text, kind, ids; the output for COUNT 400
and SEED 1 is textenc/testdata/tokenizer/unicode.jsonl.gz."""
import json
import random
import sys
import unicodedata

from transformers import CLIPTokenizerFast

folder = sys.argv[1]
count = int(sys.argv[2]) if len(sys.argv) > 2 else 400
r = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
tok = CLIPTokenizerFast(f"{folder}/vocab.json", f"{folder}/merges.txt")

# Blocks that hold what Unicode 10 to 17 added, with what surrounds it.
NEW = [(0x1C80, 0x1C8F), (0xA7C0, 0xA7FF), (0x0860, 0x08FF), (0x0C00, 0x0DFF), (0x105C0, 0x105FF), (0x10D20, 0x10D8F), (0x10EA0, 0x10FFF),
       (0x11300, 0x113FF), (0x11900, 0x1194F), (0x11BC0, 0x11BFF), (0x16100, 0x1613F), (0x16D40, 0x16D7F), (0x16EA0, 0x16EDF), (0x1CCF0, 0x1CCF9),
       (0x1E5D0, 0x1E5FF), (0x1ABF, 0x1ACF), (0x1DF5, 0x1DFF), (0x13460, 0x143FF), (0x2EBF0, 0x2EE5D), (0x116D0, 0x116E3)]
MARKS = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
COMPOSED = [chr(c) for c in range(0x110000) if unicodedata.normalize("NFD", chr(c)) != chr(c) and not 0xAC00 <= c <= 0xD7A3]


def some(chars, lo, hi):
    return "".join(r.choice(chars) for _ in range(r.randint(lo, hi)))


def new():
    return "".join(chr(r.randint(*r.choice(NEW))) for _ in range(r.randint(1, 8))) + r.choice(["", "s", "'s", " cat", "1"])


def ordered():
    return r.choice("aeouASİǅq中") + some(MARKS, 2, 6) + r.choice(["", "x"])


def composed():
    return unicodedata.normalize(r.choice(["NFC", "NFD"]), some(COMPOSED, 1, 6)) + some(MARKS, 0, 2)


def jamo():
    return some([chr(c) for c in range(0x1100, 0x1200)] + ["각", "가"], 1, 8)


def zalgo():
    return " ".join(r.choice("catsdog") + some(MARKS[:120], 20, 70) for _ in range(r.randint(1, 3)))


def any_case():
    return some(["İ", "ẞ", "Σ", "ς", "ſ", "K", "Å", "Ǆ", "ﬁ", "Ⅷ", "Ⓐ", "<|ENDOFTEXT|>", "<|startoftext|>", "'S", "'Ll", "'", "a", " "], 1, 8)


def anything():
    return "".join(chr(c) for c in (r.randrange(0x110000) for _ in range(r.randint(1, 12))) if not 0xD800 <= c <= 0xDFFF)


for i in range(count):
    kind = [new, ordered, composed, jamo, zalgo, any_case, anything][i % 7]
    text = kind()
    print(json.dumps({"text": text, "kind": kind.__name__, "ids": tok(text).input_ids}))
