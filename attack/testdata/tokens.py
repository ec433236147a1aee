"""Make tokens.jsonl.gz: what NLTK's word_tokenize makes of 520 texts in lower case, Punkt without a trained model.

    pip install nltk==3.10.4 && python tokens.py

The first line has the versions, each other one a text and its tokens.
"""
import gzip
import json
import os
import platform
import random

import nltk
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = [
    "don't", "cannot", "dog's", "wanna", "wanna go", "a well-known dog", "3,5", "3,5, and 7", "the cats' tails",
    "it's what they're, we've, i'll, she'd, i'm", "gimme gonna gotta lemme", "d'ye see more'n that", "'tis 'twas",
    "x-cannot-y", "cannot.", "don't's", "'hello' said 'he'", "''hello'' world", "\"hello\" world.\"", "``a'' `b'",
    "a dog. a cat", "a dog.a cat", "a dog .cat", "a dog.) a cat", "(a dog.) a cat.", "dogs... cats", "dogs.. cats..",
    "dog.. ", "dog?! cat!? end", "3. dog", "a. dog", "a. 3 dogs", "see e.g. that", "u.s. cars cost $3.88, 10% less",
    "a,,b", "a,,,b", "a:b", "a:3", "a,3", "3:a", ",", ",,", ":", ".", "..", "...", "'", "''", "'''", "\"", "-", "--",
    "---", "a---b", "a--b--c", "a - b", "[a] (b) {c} <d>", "a;b@c#d$e%f&g", "a*b**c", "a!b?c", "a\u2013b\u2014c",
    "\u201chello\u201d \u2018world\u2019", "\u00abhello\u00bb \u201eworld\u201c", "caf\u00e9 na\u00efve", "\u043a\u043e\u0442",
    "\u732b \u72ac", "\U0001f431 cat", "", " ", "\t\n ", "a\nb", "a\tb", "a\u00a0b", "a\u2003b", "a \x1c b", "_a_ b_c", "a\\b/c|d",
    "a^b~c=d+e", "kit chen", "r\u0301esum\u00e9", "1st 2nd", "o'clock", "rock'n'roll", "'90s", "'s", "n't", "'ll go",
    "he said:\"go!\"", "what's'", "x's's", "a'b'c", "ab'", "a'' b''", "end.'", "end.''", "end.\")", "end . ", "a . b",
]
SENTENCES = [
    "I don't think you cannot see the dog's bone, wanna bet?",
    "A man (aged 3,5) said: \"Hello there!\" and left. Then he came back.",
    "well-known brands cost $3.88, i.e. 10% less; they're gonna win...",
    "the cats' tails -- long & short -- weren't 'nice' at all.",
    "first. second! third? fourth: fifth; sixth.",
    "a cartoon cat on a blue background, flat style please",
    "show me a 3d mug of beer on a plain black background.",
]


def damage(text, edits, rng):
    chars = list(text)
    for _ in range(edits):
        slot, c = rng.randrange(2 * len(chars) + 1), chr(rng.randrange(32, 127))
        chars[slot // 2:slot // 2 + slot % 2] = [c] if rng.random() < 0.9 else []
    return "".join(chars)


def main():
    rng = random.Random(5)
    texts = list(EXAMPLES)
    while len(texts) < 520:
        texts.append(damage(rng.choice(SENTENCES), rng.choice([0, 1, 1, 1, 2, 4, 12]), rng).lower())
    punkt, words = PunktSentenceTokenizer(), NLTKWordTokenizer()
    with gzip.GzipFile(os.path.join(HERE, "tokens.jsonl.gz"), "wb", mtime=0) as out:
        versions = {"nltk": nltk.__version__, "python": platform.python_version()}
        rows = [versions] + [[t, [w for s in punkt.tokenize(t) for w in words.tokenize(s)]] for t in texts]
        out.write("".join(json.dumps(r) + "\n" for r in rows).encode())


main()
