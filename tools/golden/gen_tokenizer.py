"""tokenizer/: vocab.json, merges.txt, tokenizer.json, ... and vectors.jsonl.

usage: gen_tokenizer.py CONFIG OUTDIR [BPE_GZ]
With BPE_GZ (bpe_simple_vocab_16e6.txt.gz of open_clip_torch) the tokenizer files are
(re)built in OUTDIR; without, CONFIG["tokenizer_dir"] names where they already lie.
ftfy must be importable (it is switched off by hand for the 'slow_basic' variant)."""

import gzip
import html
import json
import os
import random
import sys

from common import args, dump


def bytes_to_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs = bs[:]
    n = 0
    for b in range(256):
        if b not in bs:
            bs.append(b)
            cs.append(256 + n)
            n += 1
    return {b: chr(c) for b, c in zip(bs, cs)}


BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def build(gz, out):
    lines = gzip.open(gz).read().decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    base = list(bytes_to_unicode().values())
    vocab = base + [v + "</w>" for v in base] + ["".join(m.split()) for m in merges] + [BOS, EOS]
    assert len(vocab) == 49408 == len(set(vocab))
    json.dump(
        {v: i for i, v in enumerate(vocab)},
        open(f"{out}/vocab.json", "w", encoding="utf-8"),
        ensure_ascii=False,
        separators=(",", ":"),
    )
    open(f"{out}/merges.txt", "w", encoding="utf-8").write("#version: 0.2\n" + "\n".join(merges) + "\n")
    added = lambda c: {
        "__type": "AddedToken",
        "content": c,
        "lstrip": False,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    }
    conf = {
        "add_prefix_space": False,
        "bos_token": added(BOS),
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": added(EOS),
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": EOS,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": added(EOS),
    }
    dump(conf, f"{out}/tokenizer_config.json", indent=2)
    sp = lambda c: {k: v for k, v in added(c).items() if k != "__type"}
    dump(
        {"bos_token": sp(BOS), "eos_token": sp(EOS), "pad_token": EOS, "unk_token": sp(EOS)},
        f"{out}/special_tokens_map.json",
        indent=2,
    )
    from transformers import CLIPTokenizerFast

    fast = CLIPTokenizerFast(
        f"{out}/vocab.json",
        f"{out}/merges.txt",
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=EOS,
        model_max_length=77,
    )
    fast.backend_tokenizer.save(f"{out}/tokenizer.json", pretty=False)


def tokenizers(d):
    from transformers import CLIPTokenizer, CLIPTokenizerFast
    import transformers.models.clip.tokenization_clip as tc

    kw = dict(bos_token=BOS, eos_token=EOS, unk_token=EOS, model_max_length=77)
    fast = CLIPTokenizerFast(
        tokenizer_file=f"{d}/tokenizer.json",
        vocab_file=f"{d}/vocab.json",
        merges_file=f"{d}/merges.txt",
        pad_token=EOS,
        **kw,
    )
    fast_xl = CLIPTokenizerFast(
        tokenizer_file=f"{d}/tokenizer.json",
        vocab_file=f"{d}/vocab.json",
        merges_file=f"{d}/merges.txt",
        pad_token="!",
        **kw,
    )
    slow_ftfy = CLIPTokenizer(f"{d}/vocab.json", f"{d}/merges.txt", pad_token=EOS, **kw)
    assert slow_ftfy.fix_text is not None, "ftfy is not importable"
    slow_xl = CLIPTokenizer(f"{d}/vocab.json", f"{d}/merges.txt", pad_token="!", **kw)
    slow_basic = CLIPTokenizer(f"{d}/vocab.json", f"{d}/merges.txt", pad_token=EOS, **kw)
    slow_basic.nlp = tc.BasicTokenizer(
        strip_accents=False, do_split_on_punc=False
    )  # as CLIPTokenizer.__init__ does without ftfy
    slow_basic.fix_text = None
    return fast, fast_xl, slow_ftfy, slow_basic, slow_xl


class OpenAI:
    """The original OpenAI/open_clip cleaning (ftfy + double html unescape + whitespace + lower) in front of HF's BPE."""

    def __init__(self, slow):
        import ftfy, regex

        self.slow, self.ftfy = slow, ftfy
        self.pat = regex.compile(
            r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
            regex.IGNORECASE,
        )
        import re

        self.ws = re.compile(r"\s+")

    def __call__(self, t):
        t = html.unescape(html.unescape(self.ftfy.fix_text(t))).strip()
        t = self.ws.sub(" ", t).strip().lower()
        ids = [49406]
        for tok in self.pat.findall(t):
            b = "".join(self.slow.byte_encoder[x] for x in tok.encode("utf-8"))
            ids += [self.slow.encoder[x] for x in self.slow.bpe(b).split(" ")]
        return ids + [49407]


def typo(r, s, n):
    s = list(s)
    pool = r.choice(
        [
            "abcdefghijklmnopqrstuvwxyz",
            "".join(map(chr, range(32, 127))),
            "".join(map(chr, range(32, 127))) + "éüßñçøåÅİıſΩяжش中の한😀",
        ]
    )
    for _ in range(n):
        op = r.randrange(3)
        i = r.randrange(len(s) + 1)
        if op == 0:
            s.insert(i, r.choice(pool))
        elif s:
            i = min(i, len(s) - 1)
            if op == 1:
                s.pop(i)
            else:
                s[i] = r.choice(pool)
    return "".join(s)


def caption(r, c):
    t = r.choice(c["templates"])
    return t.format(
        adj=r.choice(c["adjectives"]),
        noun=r.choice(c["nouns"]),
        verb=r.choice(c["verbs"]),
        place=r.choice(c["places"]),
        style=r.choice(c["styles"]),
        n=r.randrange(2, 9999),
    )


RANGES = [
    (0x20, 0x7E),
    (0xA0, 0xFF),
    (0x100, 0x24F),
    (0x250, 0x2AF),
    (0x300, 0x36F),
    (0x370, 0x3FF),
    (0x400, 0x4FF),
    (0x531, 0x58F),
    (0x591, 0x5F4),
    (0x600, 0x6FF),
    (0x900, 0x97F),
    (0xE01, 0xE5B),
    (0x1100, 0x11FF),
    (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF),
    (0x2000, 0x206F),
    (0x2070, 0x209F),
    (0x20A0, 0x20BF),
    (0x2100, 0x218F),
    (0x2190, 0x21FF),
    (0x2460, 0x24FF),
    (0x2600, 0x27BF),
    (0x2E80, 0x2FDF),
    (0x3000, 0x303F),
    (0x3040, 0x30FF),
    (0x3200, 0x33FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xE000, 0xE0FF),
    (0xF900, 0xFAFF),
    (0xFB00, 0xFB4F),
    (0xFE00, 0xFE0F),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFFEF),
    (0x10400, 0x1044F),
    (0x1D400, 0x1D7FF),
    (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1F64F),
    (0x1F680, 0x1F6FF),
    (0x1F900, 0x1F9FF),
    (0x20000, 0x200FF),
]
WS = [
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1f",
    "\x85",
    "\ufeff",
    "\u180e",
    "\u1680",
    "\u202f",
]


def strings(c):
    r = random.Random(c["seed"])
    out = [(t, "fixed") for t in c["fixed"]]

    def add(n, kind, f):
        for _ in range(n):
            out.append((f(), kind))

    k = c["count"]
    cap = lambda: caption(r, c)

    def case(s):
        return r.choice(
            [str.upper, str.title, str.swapcase, lambda s: "".join(r.choice([ch.upper(), ch.lower()]) for ch in s)]
        )(s)

    def rnd(lo, n):
        return "".join(chr(r.randint(*lo)) for _ in range(n))

    add(k * 12 // 100, "caption", cap)
    add(k * 6 // 100, "case", lambda: case(cap()))
    add(k * 24 // 100, "typo", lambda: typo(r, cap(), r.choice([1, 1, 1, 2, 2, 3, 5, 10])))
    add(k * 5 // 100, "ascii-noise", lambda: rnd((32, 126), r.randrange(1, 60)))

    def block():
        a = r.choice(RANGES)
        return (
            rnd(a, r.randrange(1, 14)) + r.choice(["", " ", " cat", "'s"]) + (rnd(r.choice(RANGES), r.randrange(0, 6)))
        )

    add(k * 14 // 100, "unicode-block", block)

    def nfd():
        import unicodedata

        return unicodedata.normalize(
            r.choice(["NFD", "NFC", "NFKD"]), " ".join(r.sample(c["accented"], r.randrange(1, 4)))
        )

    add(k * 5 // 100, "accent-normal-form", nfd)
    add(
        k * 4 // 100,
        "cjk-mixed",
        lambda: r.choice(["", "a ", "photo of "])
        + "".join(r.sample(c["cjk"], r.randrange(1, 4)))
        + r.choice(["", " art", "1", "、ok"]),
    )
    add(
        k * 4 // 100,
        "emoji-zwj",
        lambda: r.choice(["", "a ", "my cat "])
        + "".join(r.sample(c["emoji"], r.randrange(1, 5)))
        + r.choice(["", " ", "!", "s"]),
    )
    add(
        k * 3 // 100,
        "rtl",
        lambda: r.choice(["", "\u200f", "a ", "\u202b"]) + " ".join(r.sample(c["rtl"], r.randrange(1, 4))),
    )

    def ent():
        return " ".join(r.choice([r.choice(c["entities"]), r.choice(c["nouns"])]) for _ in range(r.randrange(1, 6)))

    add(k * 3 // 100, "html-entity", ent)

    def ctrl():
        s = cap()
        for _ in range(r.randrange(1, 5)):
            i = r.randrange(len(s) + 1)
            s = (
                s[:i]
                + chr(
                    r.choice(
                        list(range(0, 32))
                        + [
                            127,
                            0x80,
                            0x85,
                            0x9F,
                            0xAD,
                            0x200B,
                            0x200C,
                            0x200D,
                            0x200E,
                            0x2028,
                            0x2060,
                            0xFEFF,
                            0xFFFD,
                            0xFFFE,
                        ]
                    )
                )
                + s[i:]
            )
        return s

    add(k * 5 // 100, "control", ctrl)
    add(k * 4 // 100, "contraction", lambda: " ".join(r.choice(c["contractions"]) for _ in range(r.randrange(1, 7))))
    add(
        k * 4 // 100,
        "digits",
        lambda: r.choice(["", "v", "$", "-", "#", "№"])
        + r.choice(
            [
                "%d",
                "%d,%03d" % (r.randrange(99), r.randrange(999)),
                "%d.5",
                "%dpx",
                "%d x %d" % (r.randrange(9999), r.randrange(99)),
                "٣%d",
                "½%d",
                "%d²",
                "Ⅳ%d",
                "１%d",
            ]
        ).replace("%d", str(r.randrange(10 ** r.randrange(1, 12)))),
    )
    add(
        k * 4 // 100,
        "whitespace",
        lambda: "".join(r.choice(WS) * r.randrange(0, 3) + w for w in cap().split(" ")) + r.choice(WS + [""]),
    )
    add(k * 3 // 100, "long", lambda: ", ".join(cap() for _ in range(r.randrange(5, 20))))
    add(
        k * 2 // 100,
        "around-77",
        lambda: " ".join(r.choice(["cat", "dog", "a", "sun"]) for _ in range(r.randrange(72, 80))),
    )

    def special():
        return "".join(
            r.choice([BOS, EOS, "<|EndOfText|>", "<|", "|>", " ", " cat", "dog", "</w>", "!", "[UNK]", "<pad>"])
            for _ in range(r.randrange(1, 7))
        )

    add(k * 2 // 100, "special", special)
    while len(out) < k:
        out.append((typo(r, cap(), 2), "typo"))
    seen, res = set(), []
    for t, kd in out:
        if t not in seen and not any(0xD800 <= ord(ch) <= 0xDFFF for ch in t):
            seen.add(t)
            res.append((t, kd))
    while len(res) < k:
        t = typo(r, cap(), 3)
        if t not in seen:
            seen.add(t)
            res.append((t, "typo"))
    return res


def main():
    cfg, out = args()
    c = cfg["tokenizer"]
    if len(sys.argv) > 3:
        build(sys.argv[3], out)
        d = out
    else:
        d = c["tokenizer_dir"]
    fast, fast_xl, slow_ftfy, slow_basic, slow_xl = tokenizers(d)
    oa = OpenAI(slow_basic)
    cat = [49406, 320, 1125, 539, 320, 2368, 49407]
    for t in (fast, slow_ftfy, slow_basic):
        assert t("a photo of a cat").input_ids == cat
    assert oa("a photo of a cat") == cat
    if len(sys.argv) > 3:  # the pieces load from the folder too, as a pipeline would load them
        from transformers import CLIPTokenizer, CLIPTokenizerFast

        assert CLIPTokenizer.from_pretrained(d)("a photo of a cat").input_ids == cat
        assert CLIPTokenizerFast.from_pretrained(d)("a photo of a cat").input_ids == cat
    stats = {}
    with open(f"{out}/vectors.jsonl", "w", encoding="ascii") as f:
        for text, kind in strings(c):
            ids = fast(text).input_ids
            t77 = fast(text, truncation=True, max_length=77).input_ids
            sd = fast(text, truncation=True, max_length=77, padding="max_length").input_ids
            xl = fast_xl(text, truncation=True, max_length=77, padding="max_length").input_ids
            assert t77 == (ids if len(ids) <= 77 else ids[:76] + [49407])
            assert len(sd) == len(xl) == 77, (text, len(sd), len(xl))
            assert sd == t77 + [49407] * (77 - len(t77)), (text, sd)
            # pad_token="!" makes "!" an added special token: "!!!" is [0,0,0] there, not [995]; only texts without "!" agree
            assert "!" in text or xl == t77 + [0] * (77 - len(t77)), (text, xl, t77)
            xls = slow_xl(text, truncation=True, max_length=77, padding="max_length").input_ids
            rec = {"text": text, "kind": kind, "ids": ids, "sd": sd, "sdxl2": xl}
            if xls != xl:
                rec["sdxl2_slow_ftfy"] = xls
            st = stats.setdefault(
                kind, {"n": 0, "slow_ftfy": 0, "slow_basic": 0, "openai": 0, "sdxl2_vs_sd": 0, "sdxl2_slow_vs_fast": 0}
            )
            st["n"] += 1
            st["sdxl2_vs_sd"] += xl != t77 + [0] * (77 - len(t77))
            st["sdxl2_slow_vs_fast"] += xls != xl
            for name, fn in (
                ("slow_ftfy", lambda x: slow_ftfy(x).input_ids),
                ("slow_basic", lambda x: slow_basic(x).input_ids),
                ("openai", oa),
            ):
                v = fn(text)
                if v != ids:
                    rec[name] = v
                    st[name] += 1
            f.write(json.dumps(rec, ensure_ascii=True, separators=(",", ":")) + "\n")
    n = 0
    for line in open(f"{out}/vectors.jsonl"):  # read back
        rec = json.loads(line)
        assert fast(rec["text"]).input_ids == rec["ids"]
        n += 1
    raw = open(f"{out}/vectors.jsonl", "rb").read()
    with open(f"{out}/vectors.jsonl.gz", "wb") as z:  # no name and no time inside: the same bytes every time
        with gzip.GzipFile("", "wb", 9, z, mtime=0) as f:
            f.write(raw)
    os.remove(f"{out}/vectors.jsonl")
    dump({"strings": n, "differences_from_fast": stats}, f"{out}/vectors_stats.json", indent=1)
    print(n, stats)


main()
