"""Alignment: from several renderings of one prompt, the constant text and the slots between it."""

import re
from collections.abc import Sequence

from tracemill.ids import PSEUDONYM
from tracemill.mining.binding import KINDS, extract

_TOKEN = re.compile(r"\w+|\s|[^\w\s]")
_DELIMITER = re.compile(r"[\n:\"`“”<>\[\]{}()|=#]")
_FRAME = re.compile(r"[^\w\s]{3,}")
_LABEL = re.compile(
    r"(?:^|\n|[.!?;,]\s)[^\w\n]*([^\W\d_][\w \-/]{0,40}?)\s*(?:\([^)\n]*\))?\s*[:=]\s*[\"'`“<\[({]*\s*$"
)
_TAG = re.compile(r"<([A-Za-z][\w.-]*)[^<>]*>\s*$")
RESERVED = re.compile(rf"{KINDS}_\d+|conversation|demonstrations")
_TRUSTED = 20
"""From so many distinct renderings on, common text is believed wherever it ends; below, only up to a delimiter."""
_SOME = 8
"""From so many on, several common words are believed after a delimiter too."""

SLOT = None
Skeleton = list[str | None]
"""Constant text and, where renderings differ, None."""


def skeleton(texts: Sequence[str]) -> Skeleton:
    """What distinct renderings have in common, in order, with None between; [None] where that is nothing.

    Constant text has a word or a frame such as ``` in it and, under few renderings, ends at a delimiter, so that two
    tickets that both begin with "I" do not put "I" into the prompt. Adjacent pieces are never of one kind.
    """
    if len(texts) == 1:
        return [SLOT]
    tokens = [_TOKEN.findall(text) for text in texts]
    prefix = _trim_end(tokens[0][: _common(tokens)], len(texts))
    rest = [row[len(prefix) :] for row in tokens]
    ending = rest[0][len(rest[0]) - _common([row[::-1] for row in rest]) :]
    suffix = _trim_start(ending, len(texts))
    middles = [row[: len(row) - len(suffix)] for row in rest]
    pieces: Skeleton = ["".join(prefix), *_infix(middles, len(texts)), "".join(suffix)]
    pieces = [piece for piece in pieces if piece != ""]
    return pieces if suffix else _closed(pieces, "".join(ending), texts)


def _common(rows: Sequence[Sequence[str]]) -> int:
    """How many tokens all rows begin with."""
    for i, column in enumerate(zip(*rows, strict=False)):
        if column.count(column[0]) < len(column):
            return i
    return min(map(len, rows))


def _says_something(tokens: Sequence[str]) -> bool:
    text = "".join(tokens)
    return bool(re.search(r"\w", text) or _FRAME.search(text))


def _trim_end(tokens: list[str], n: int) -> list[str]:
    kept = list(tokens)
    if n < _TRUSTED:
        while kept and not (_DELIMITER.match(kept[-1]) or "\n" in kept[-1] or _blank_after_delimiter(kept)):
            kept.pop()
        if n >= _SOME and _words(tokens[len(kept) :]) > 1:
            kept = list(tokens)
    return kept if _says_something(kept) else []


def _words(tokens: Sequence[str]) -> int:
    return len(re.findall(r"[^\W\d_]+", "".join(tokens)))


def _blank_after_delimiter(tokens: list[str]) -> bool:
    return len(tokens) > 1 and tokens[-1].isspace() and bool(_DELIMITER.match(tokens[-2]))


def _trim_start(tokens: list[str], n: int) -> list[str]:
    kept = list(tokens)
    if n < _TRUSTED:
        while kept and not (_DELIMITER.match(kept[0]) or "\n" in kept[0]):
            kept.pop(0)
        if n >= _SOME and _words(tokens[: len(tokens) - len(kept)]) > 1:
            kept = list(tokens)
    return kept if _says_something(kept) else []


def _closed(pieces: Skeleton, marks: str, texts: Sequence[str]) -> Skeleton:
    """The pieces with the marks that end every text ("You have 3 tickets."), if the last slot never holds them else.

    Under few renderings only names and numbers give up their full stop: that of a sentence is the sentence's own.
    """
    if len(texts) < _SOME or not marks.strip() or pieces[-1] is not SLOT:
        return pieces
    content = [piece if piece is not None else {"slot": f"s{i}"} for i, piece in enumerate(pieces)]
    last = f"s{len(pieces) - 1}"
    for text in texts:
        value = (extract(content, text) or {}).get(last, marks + marks)
        value = value[: -len(marks)]
        if any(mark in value for mark in marks if not mark.isspace()):
            return pieces
        if len(texts) < _TRUSTED and len(value.split()) > 4:
            return pieces
    return [*pieces, marks]


def _infix(rows: list[list[str]], n: int) -> Skeleton:
    """The rows as slots around their longest common run of tokens, and so on left and right of it."""
    if n < 4:
        return [SLOT]
    run = _longest_common_run(rows)
    while run and not _is_label(run, n):
        run = run[:-1] if not (run[0].isspace() and "\n" not in run[0]) else run[1:]
        if len(run) < 2:
            run = []
    if not run:
        return [SLOT]
    # The leftmost occurrence in every row, as binding will look for the leftmost.
    places = [_find(row, run) for row in rows]
    lefts = [row[:at] for row, at in zip(rows, places, strict=True)]
    rights = [row[at + len(run) :] for row, at in zip(rows, places, strict=True)]
    left: Skeleton = _infix(lefts, n) if any(lefts) else []
    right: Skeleton = _infix(rights, n) if any(rights) else []
    return [*left, "".join(run), *right]


def _is_label(run: Sequence[str], n: int) -> bool:
    """Whether a common run looks written by the program: a line with a label, a tag, or many words.

    Two words are many where so many rows share them.
    """
    text = "".join(run)
    if _words(run) >= (2 if n >= _TRUSTED else 5):
        return True
    framed = "\n" in text or "<" in text or "|" in text
    return framed and bool(re.search(r"\w", text)) and bool(re.search(r"[:>=|]", text))


def _longest_common_run(rows: Sequence[Sequence[str]]) -> list[str]:
    shortest = min(rows, key=len)
    low, high, best = 1, len(shortest), list[str]()
    # A common run of n tokens contains common runs of n-1, so bisection finds the longest.
    while low <= high:
        size = (low + high) // 2
        grams: dict[tuple[str, ...], int] = {
            tuple(shortest[i : i + size]): i for i in range(len(shortest) - size, -1, -1)
        }
        shared = set(grams)
        for row in rows:
            shared &= {tuple(row[i : i + size]) for i in range(len(row) - size + 1)}
            if not shared:
                break
        if shared:
            best, low = list(min(shared, key=lambda gram: grams[tuple(gram)])), size + 1
        else:
            high = size - 1
    return best


def _find(row: list[str], run: list[str]) -> int:
    at = row.index(run[0])
    while row[at : at + len(run)] != run:
        at = row.index(run[0], at + 1)
    return at


class SlotNames:
    """Gives the slots of one template their names: unique, and said by the text before them."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._pseudonyms: dict[str, str] = {}
        self.unbound: list[str] = []
        """Slots that stand for a pseudonym in constant text."""

    def content(self, pieces: Skeleton) -> list[str | dict[str, str]]:
        """Template content of a skeleton: slots named by their labels, pseudonyms in constant text made slots."""
        content: list[str | dict[str, str]] = []
        before = ""
        for piece in pieces:
            if piece is None:
                content.append({"slot": self._unique(label(before))})
                before = ""
                continue
            content.extend(self._without_pseudonyms(piece))
            before += piece
        return content

    def _without_pseudonyms(self, text: str) -> list[str | dict[str, str]]:
        content: list[str | dict[str, str]] = []
        at = 0
        for hit in PSEUDONYM.finditer(text):
            if hit.start() > at:
                content.append(text[at : hit.start()])
            if hit.group() not in self._pseudonyms:
                kind = hit.group(1).lower()
                number = sum(name.startswith(kind + "_") for name in self._pseudonyms.values()) + 1
                self._pseudonyms[hit.group()] = f"{kind}_{number}"
                self.unbound.append(f"{kind}_{number}")
            content.append({"slot": self._pseudonyms[hit.group()]})
            at = hit.end()
        if at < len(text):
            content.append(text[at:])
        return content

    def _unique(self, wanted: str) -> str:
        base = f"{wanted}_text" if RESERVED.fullmatch(wanted) else wanted
        name, number = base, 1
        while name in self._used or RESERVED.fullmatch(name):
            number += 1
            name = f"{base}_{number}" if not RESERVED.fullmatch(f"{base}_{number}") else f"{base}_text_{number}"
        self._used.add(name)
        return name


def label(before: str) -> str:
    """The slot name that the text before it gives: "Ticket: " → ticket, "<user_name>" → user_name, else input."""
    tail = before[-120:]
    hit = _TAG.search(tail) or _LABEL.search(tail)
    words = re.findall(r"[^\W_]+", hit.group(1).lower())[-3:] if hit else []
    name = "_".join(words)
    return name if name.isidentifier() else "input"
