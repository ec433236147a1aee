"""Asks the reference tokenizer what it takes for a letter, a number, white space, a lower-case form, a
combining mark and a composed character.

usage: pip install tokenizers==0.22.2 && python classes.py | go run . > ../../textenc/tables_gen.go
Prints one JSON object: letters, numbers, spaces, marks (those that canonical ordering moves and
nothing decomposes), composed (those
that canonical decomposition changes), all as ranges [lo, hi] of code points; lower: code point -> its lower-case
form, where it differs from itself. Every code point but the surrogates is asked."""
import json

import tokenizers
from tokenizers import Regex
from tokenizers.normalizers import NFC, NFD, Lowercase, Replace

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(has):
    found = []
    for c in POINTS:
        if not has(chr(c)):
            continue
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def matches(pattern):
    strip = Replace(Regex(pattern), "")
    return lambda c: strip.normalize_str(c) == ""


def decomposes(c):
    return NFD().normalize_str(c) != c


def moves(c):
    """A mark goes before U+0345 (the highest class, 240) or after U+0334 (the lowest, 1)."""
    return not decomposes(c) and any(NFC().normalize_str(s) != s for s in ("a\u0345" + c, "a" + c + "\u0334"))


lower = {c: low for c in POINTS if (low := Lowercase().normalize_str(chr(c))) != chr(c)}
print(json.dumps({"version": tokenizers.__version__, "letters": ranges(matches(r"\p{L}")), "numbers": ranges(matches(r"\p{N}")),
                  "spaces": ranges(matches(r"\s")), "marks": ranges(moves),
                  "composed": ranges(decomposes), "lower": lower}))
