"""invert/testdata/bleu.json: corpus BLEU by sacrebleu with its defaults.

python gen_bleu.py ../../invert/testdata/bleu.json     # pip install sacrebleu==2.6.0
"""
import json
import sys

import sacrebleu

CAPTIONS = [
    ("A ghost on a yellow background.", "ghost yellow background a on"),
    ("a photo of a pretty unicorn on a green background", "a photo of a pretty unicorn on a green background"),
    ("a 3d whale on a gray background", "3d whale gray whale background , a"),
    ("an elephant on a pink background", "pink an elephant on a background"),
]
CASES = {
    "equal": [("the cat is on the mat", "the cat is on the mat")],
    "nothing in common": [("the cat is on the mat", "dogs run far away today")],
    "empty reconstruction": [("the cat", "")],
    "both empty": [("", "")],
    "no pairs of words": [("a b c d e f", "f e d c b a")],
    "too short for four words": [("the cat sat", "the cat sat")],
    "four words of many": [("the cat sat on the mat by the door", "the cat sat on")],
    "longer than the reference": [("the cat sat on the mat", "the cat sat on the mat and then slept on the mat")],
    "repeats count once": [("the cat sat on a mat today", "the the the the the cat sat")],
    "case counts": [("A Ghost on a yellow background", "a ghost on a yellow background")],
    "captions": CAPTIONS,
    "captions, one empty": CAPTIONS + [("a kiwi on a plain green background", "")],
    "commas and full stops": [("It cost 1,000.50 dollars, they say.", "it cost 1,000.50 dollars , they say .")],
    "signs": [("wait: (really?) 50% [off]; a/b @home {now} ~ ^ _ `", "wait : ( really ? ) 50 % [ off ] ; a / b @ home { now } ~ ^ _ `")],
    "dashes": [("well-known 1990-2000 -5 a -- b", "well-known 1990 - 2000 - 5 a -- b")],
    "apostrophes": [("don't stop the dog's ball", "don 't stop the dog 's ball")],
    "entities": [("a &quot;b&quot; &amp; c &lt;d&gt; &amp;lt; e", 'a "b" & c <d> < e')],
    "line ends": [("a well-\nknown\ncat sat here-\n", "a wellknown cat sat here-")],
    "skipped": [("a <skipped> cat sat on it", "a cat sat on it")],
    "other scripts": [("猫 が 座る 、 ここ 。", "猫 が 座る 、 ここ"), ("кот сидит на ковре.", "кот сидит на ковре .")],
}


def main():
    cases = []
    for name, pairs in CASES.items():
        score = sacrebleu.corpus_bleu([h for _, h in pairs], [[r for r, _ in pairs]])
        cases.append({"name": name, "pairs": [{"reference": r, "reconstruction": h} for r, h in pairs], "bleu": score.score})
    out = {"versions": {"sacrebleu": sacrebleu.__version__, "python": sys.version.split()[0]}, "cases": cases}
    with open(sys.argv[1], "w") as f:
        json.dump(out, f, ensure_ascii=False, indent=1)
        f.write("\n")


main()
