"""Character edits: random typos and the LEAF search for the worst one.

An expanded string has a slot for every character and for every gap between characters: putting a character into a gap
inserts it, into a character's slot replaces it, and putting nothing there deletes it. `src` maps each character of the
edited string to the index of the original character it stands for, so that tokens can be aligned.
"""

import re

from data import OBJECTS, STYLES, COLOUR_NAMES, COLOURS

ALPHABET = "abcdefghijklmnopqrstuvwxyz "
EXTRA = "0123456789-'.,!?"
VOCAB = {w for n in OBJECTS.values() for x in n for w in re.findall(r"[a-z0-9-]+", x)}
VOCAB |= {w for _, p in STYLES.values() for x in p for w in x.split()} | set(COLOURS)
VOCAB |= {w for n in COLOUR_NAMES.values() for x in n for w in x.split()}


def words(s):
    return set(re.findall(r"[a-z0-9-]+", s.lower()))


def edit(s, src, slot, ch):
    """slot 2i: gap before character i; slot 2i+1: character i. ch '' deletes."""
    i, on = slot // 2, slot % 2
    here = src[min(i, len(src) - 1)] if src else 0
    return s[:i] + ch + s[i + on :], src[:i] + [here] * len(ch) + src[i + on :]


def allowed(s, t):
    """The edit changes something and does not turn a word into another word of the vocabulary."""
    a, b = s.strip().lower(), t.strip().lower()
    return a != b and not ((words(b) - words(a)) & VOCAB)


def typo(s, src, rng, k=1, content=0.0):
    """k random edits of letters, as a hasty typist makes them: swap, drop, double, replace, insert.

    With probability `content` an edit goes to a word of the vocabulary (object, colour, style).
    """
    for _ in range(k):
        for _ in range(20):
            pos = [i for i, c in enumerate(s) if c.isalpha()]
            if content and rng.random() < content:
                hits = [m for m in re.finditer(r"[a-z0-9-]+", s.lower()) if m.group() in VOCAB]
                if hits:
                    m = rng.choice(hits)
                    pos = [i for i in range(m.start(), m.end()) if i < len(s) and s[i].isalpha()] or pos
            if not pos:
                return s, src
            i, kind = rng.choice(pos), rng.randrange(5)
            if kind == 0 and i + 1 < len(s) and s[i + 1].isalpha() and s[i] != s[i + 1]:
                t, u = s[:i] + s[i + 1] + s[i] + s[i + 2 :], src[:i] + [src[i + 1], src[i]] + src[i + 2 :]
            elif kind == 1:
                t, u = edit(s, src, 2 * i + 1, "")
            elif kind == 2:
                t, u = edit(s, src, 2 * i, s[i])
            else:
                t, u = edit(s, src, 2 * i + (kind == 3), rng.choice(ALPHABET[:26]))
            if allowed(s, t):
                s, src = t, u
                break
    return s, src


def leaf_attack(texts, score, rng, rho=20, k=1, srcs=None):
    """Worst of rho positions (tested with a space), then worst of rho characters there; k edits greedily.

    score(list of strings, list of indices of the captions they come from) -> list of losses, higher is worse.
    """
    cur = [(t, list(range(len(t))) if srcs is None else srcs[i]) for i, t in enumerate(texts)]
    for _ in range(k):
        cands = []
        for b, (s, src) in enumerate(cur):
            slots = rng.sample(range(2 * len(s) + 1), min(rho, 2 * len(s) + 1))
            for sl in slots:
                ch = " " if not (sl % 2 and s[sl // 2] == " ") else ""
                t, u = edit(s, src, sl, ch)
                if allowed(s, t):
                    cands.append((b, sl, t, u))
        best = pick(cands, score)
        cands = []
        for b, (s, src) in enumerate(cur):
            if b not in best:
                continue
            sl = best[b][1]
            cands.append(best[b])
            for ch in rng.sample(list(ALPHABET + EXTRA) + [""], rho):
                if ch == "" and sl % 2 == 0:
                    continue
                t, u = edit(s, src, sl, ch)
                if allowed(s, t):
                    cands.append((b, sl, t, u))
        best = pick(cands, score)
        cur = [(best[b][2], best[b][3]) if b in best else c for b, c in enumerate(cur)]
    return cur


def pick(cands, score):
    best, top = {}, {}
    if not cands:
        return best
    for c, v in zip(cands, score([c[2] for c in cands], [c[0] for c in cands])):
        if c[0] not in top or v > top[c[0]]:
            top[c[0]], best[c[0]] = v, c
    return best
