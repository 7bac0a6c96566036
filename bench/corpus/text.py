"""Random text: prose by Zipf's law, JSON rows, ids, and now and then something that redaction has to find."""

import random
from itertools import accumulate
from pathlib import Path

import msgspec

PLANTED = "planted-mail.net"
"""In every planted e-mail address: must not be found in a lake."""
ENCODE = msgspec.json.Encoder().encode
_SYLLABLES = [first + second for first in "bcdfghklmnprstv" for second in "aeio"]


class Writer:
    """Random text, ids and values, all from one generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        made = random.Random(7)
        english = (Path(__file__).parent / "english.txt").read_text(encoding="utf-8").split()
        words = [*english, *("".join(made.choices(_SYLLABLES, k=made.choice((2, 2, 3, 3, 4)))) for _ in range(6000))]
        weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
        self._drawn = made.choices(words, cum_weights=weights, k=1 << 16)  # drawing from it needs no weights

    def id(self, n_bytes: int) -> str:
        return f"{self.random.getrandbits(8 * n_bytes) | 1:0{2 * n_bytes}x}"

    def text(self, n_chars: int) -> str:
        """Prose of about so many characters, with numbers here and there and rarely something personal."""
        draw = self.random
        words = draw.choices(self._drawn, k=max(4, n_chars // 6))
        at = 0
        while at < len(words):
            words[at] = words[at].capitalize()
            at += draw.randrange(7, 19)
            if at < len(words):
                words[at - 1] += "."
        words[-1] += "."
        chance = draw.random()
        if chance < 0.3:
            words.insert(draw.randrange(len(words)), f"{draw.randrange(100_000, 999_999)}")
        elif chance > 0.97:
            words.insert(draw.randrange(len(words)), self.personal())
        return " ".join(words)

    def personal(self) -> str:
        """What redaction has to find."""
        draw = self.random
        first, last = draw.choice(self._drawn).lower(), draw.choice(self._drawn).lower()
        match draw.randrange(4):
            case 0:
                return f"AKIA{''.join(draw.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', k=16))}"
            case 1:
                return f"+49 30 {draw.randrange(1_000_000, 9_999_999)}"
            case _:
                return f"{first}.{last}@{PLANTED}"

    def rows(self, n_chars: int) -> str:
        """What a tool answers: JSON records."""
        draw, rows = self.random, []
        for _ in range(max(1, n_chars // 110)):
            rows.append(
                {
                    "id": draw.randrange(10**6, 10**7),
                    "state": draw.choice(("open", "sent", "paid", "lost")),
                    "amount": round(draw.random() * 400, 2),
                    "note": " ".join(draw.choices(self._drawn, k=6)),
                }
            )
        return ENCODE(rows).decode()
