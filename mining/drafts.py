"""Drafts: the prompt template behind a set of calls that look alike, built so that it renders to every one of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracemill.ids import PSEUDONYM
from tracemill.mining.align import RESERVED, SLOT, Skeleton, SlotNames, skeleton
from tracemill.mining.binding import bind_item, extract, fixed_items
from tracemill.mining.calls import MAX_FIXED, Bools, Calls, Ints, Mined, Sent, distinct
from tracemill.records import ChatMessage, Template

_SAMPLE = 50
_TURNS = 4
"""From so many similar system prompts in use at the same time on, they are one with a slot; fewer may be variants."""
_COMPARED = 20
"""A prompt is compared with so many of a family of similar ones; thousands may differ in a name."""
_RARE = 3
"""A system prompt of fewer trajectories is one filling of a slot, not a version, if so many others are like it."""
_DIGITS = re.compile(r"\d+")
_LEAD = re.compile(r"\s*([^\W\d][^:\n]{2,60}[:\n])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A recovered template before it is known which site it belongs to."""

    template: Template
    unbound: tuple[str, ...]
    flags: tuple[str, ...] = ()


def fits(calls: Calls, sent: Sent, template: Template, rows: Ints) -> Bools:
    """By row: whether the template renders to the call's messages exactly, for some slot values."""
    before, open_ended, after = fixed_items(template)
    lengths = calls.lengths[rows]
    fixed = len(before) + len(after)
    good = lengths >= fixed if open_ended else lengths == fixed
    places = [*enumerate(before), *((i - len(after), item) for i, item in enumerate(after))]
    values: list[dict[int, dict[str, str] | None]] = []
    for place, item in places:
        codes = calls.at(rows, place)
        seen = distinct(codes[good]).tolist()
        sent.fetch(seen)
        bound = {code: _bound(item, sent.get(code)) for code in seen}
        values.append(bound)
        good = good & np.isin(codes, [code for code, found in bound.items() if found is not None])
    if _repeats_across(places):
        columns = np.stack([calls.at(rows, place) for place, _ in places], axis=1)
        for i in np.flatnonzero(good):
            filled: dict[str, str] = {}
            for bound, code in zip(values, columns[i].tolist(), strict=True):
                for name, value in (bound[code] or {}).items():
                    good[i] &= filled.setdefault(name, value) == value
    return np.asarray(good, dtype=bool)


def _bound(item: Mapping[str, Any], message: ChatMessage | None) -> dict[str, str] | None:
    return None if message is None else bind_item(item, message)


def _repeats_across(places: Sequence[tuple[int, Mapping[str, Any]]]) -> bool:
    names = [name for _, item in places for name in {p["slot"] for p in item["content"] if not isinstance(p, str)}]
    return len(names) != len(set(names))


def by_prompt(calls: Calls, sent: Sent, rows: Ints) -> list[Ints]:
    """Rows of one system prompt each. Prompts that differ in numbers and pseudonyms only are one prompt, and so are
    similar ones that many of take turns, or that come up in so few trajectories that something is filled in."""
    if not len(rows):
        return []
    columns = []
    leading = np.ones(len(rows), dtype=bool)
    for place in range(MAX_FIXED):
        codes = calls.at(rows, place)
        leading = leading & (codes >= 0) & (calls.role[codes] == "system")
        if not leading.any():
            break
        columns.append(np.where(leading, codes, -1))
    if not columns:
        return [rows]
    if len(columns) == 1:  # as most often
        first, inverse = np.unique(columns[0], return_inverse=True)
        heads = first[:, None]
    else:
        heads, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    inverse = inverse.ravel()
    sent.fetch(code for code in np.unique(heads).tolist() if code >= 0)
    masked: dict[str, int] = {}
    number = [
        masked.setdefault(_DIGITS.sub("0", PSEUDONYM.sub("0", _text(sent, head))), len(masked))
        for head in heads.tolist()
    ]
    prompt_of = np.array(number, dtype=np.int64)[inverse]
    members = np.split(rows[np.argsort(prompt_of, kind="stable")], np.cumsum(np.bincount(prompt_of))[:-1])
    prompts = [_Prompt.of(calls, own, set(re.findall(r"\w+", text))) for text, own in zip(masked, members, strict=True)]
    families: list[list[_Prompt]] = []
    for prompt in prompts:
        for family in families:
            if any(prompt.is_like(member) for member in family[-_COMPARED:]):
                family.append(prompt)
                break
        else:
            families.append([prompt])
    parts = [part for family in families for era in _eras(family) for part in _fillings(era)]
    return [np.concatenate([prompt.rows for prompt in part]) for part in parts]


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    """Calls whose system prompt differs in numbers and pseudonyms only, and when it was in use."""

    rows: Ints
    words: set[str]
    trajectories: int
    first: float
    last: float

    @classmethod
    def of(cls, calls: Calls, rows: Ints, words: set[str]) -> "_Prompt":
        starts = [time for time in calls.start_ns[rows].tolist() if time is not None]
        return cls(
            rows=rows,
            words=words,
            trajectories=len(np.unique(calls.trajectory[rows])),
            first=min(starts, default=float("-inf")),  # undated calls may be of any time
            last=max(starts, default=float("inf")),
        )

    def is_like(self, other: "_Prompt") -> bool:
        return bool(self.words) and len(self.words & other.words) >= 0.6 * len(self.words | other.words)


def _eras(family: list[_Prompt]) -> list[list[_Prompt]]:
    """Similar prompts in times of their own: an edited prompt follows the old one, what fills a slot takes turns.

    A prompt of one trajectory says nothing of how long it was in use; it belongs where its time falls.
    """
    lasting = sorted((prompt for prompt in family if prompt.trajectories > 1), key=lambda prompt: prompt.first)
    if not lasting:
        return [family]
    eras: list[list[_Prompt]] = []
    until = float("-inf")
    for prompt in lasting:
        if not eras or prompt.first > until:
            eras.append([])
        eras[-1].append(prompt)
        until = max(until, prompt.last)
    begins = [min(prompt.first for prompt in era) for era in eras]
    for prompt in family:
        if prompt.trajectories == 1:
            eras[max(int(np.searchsorted(begins, prompt.first, side="right")) - 1, 0)].append(prompt)
    return eras


def _fillings(era: list[_Prompt]) -> list[list[_Prompt]]:
    """The prompts of one time: one prompt with a slot where many take turns, each its own where few do."""
    often = [prompt for prompt in era if prompt.trajectories >= _RARE]
    rare = [prompt for prompt in era if prompt.trajectories < _RARE]
    if len(often) >= _TURNS:
        return [era]
    # So few trajectories each: something is filled in. One or two such prompts may as well be edits.
    return [[prompt] for prompt in often] + ([rare] if len(rare) >= _RARE else [[prompt] for prompt in rare])


def _text(sent: Sent, head: Iterable[int]) -> str:
    found = (sent.get(code) for code in head if code >= 0)
    return "\n".join(str(message.get("content")) for message in found if message is not None)


def by_label(calls: Calls, sent: Sent, rows: Ints) -> list[Ints]:
    """Rows apart by the first line of their first varying user message, where few such lines begin them all."""
    place = _first_varying(calls, rows)
    if place is None:
        return [rows]
    codes = calls.at(rows, place)
    seen = distinct(codes[codes >= 0])
    if len(seen) < 2 * _RARE or set(calls.role[seen]) != {"user"}:
        return [rows]
    sent.fetch(seen.tolist())
    leads: dict[str, list[int]] = {}
    for code in seen.tolist():
        message = sent.get(code)
        hit = _LEAD.match(str(message.get("content"))) if message else None
        if hit is None:
            return [rows]
        leads.setdefault(hit.group(1), []).append(code)
        if len(leads) > 6:
            return [rows]
    if len(leads) < 2 or min(map(len, leads.values())) < _RARE:
        return [rows]
    return [rows[np.isin(codes, members)] for members in leads.values()]


def _first_varying(calls: Calls, rows: Ints) -> int | None:
    for place in range(min(MAX_FIXED, int(calls.lengths[rows].min()))):
        codes = calls.at(rows, place)
        if (codes != codes[0]).any():
            return place
    return None


def draft(calls: Calls, sent: Sent, rows: Ints, tools: tuple[Mapping[str, Any], ...] | None) -> Draft:
    """The template of rows that share a system prompt.

    What all share is constant; user and system messages that vary are text with slots; from the first other message
    that varies, or where the calls differ in length, the rest is the conversation. Rows that are shorter than almost
    all others may not fit it.
    """
    lengths = calls.lengths[rows]
    shared = min(int(np.quantile(lengths, 0.05, method="lower")), MAX_FIXED)
    rows, longest = rows[lengths >= shared], int(lengths.max())
    names = SlotNames()
    openings = np.stack([calls.at(rows, place) for place in range(shared)], axis=1)
    for place in range(shared):
        sent.fetch(distinct(openings[:, place]).tolist())
    if (demos := _demonstrations_at(calls, openings, longest)) is not None:
        items = _items(sent, openings[:, :demos], names)
        question = _items(sent, openings[:, -1:], names)
        if len(items) == demos and len(question) == 1:
            template = Template(messages=(*items, {"conversation": True}, *question), tools=tools)
            return Draft(template=template, unbound=tuple(names.unbound), flags=("dynamic_demonstrations",))
        names = SlotNames()
    once = bool((openings == openings[0]).all())
    items = _single(calls, sent, openings[0], names) if once else _items(sent, openings, names)
    more = longest > len(items)
    template = Template(messages=(*items, {"conversation": True}) if more else tuple(items), tools=tools)
    return Draft(template=template, unbound=tuple(names.unbound))


def _single(calls: Calls, sent: Sent, opening: Ints, names: SlotNames) -> list[Mapping[str, Any]]:
    """One opening says nothing of what varies: its last user message is taken for the slot."""
    users = [place for place, code in enumerate(opening) if calls.role[code] == "user"]
    items: list[Mapping[str, Any]] = []
    for place, code in enumerate((opening[: users[-1] + 1] if users else opening).tolist()):
        message = sent.get(code)
        if message is None or not isinstance(message.get("content"), str):
            break
        last = bool(users) and place == users[-1]
        items.append(_item(message, names.content([SLOT] if last else [message["content"]])))
    return items


def _items(sent: Sent, openings: Ints, names: SlotNames) -> list[Mapping[str, Any]]:
    items: list[Mapping[str, Any]] = []
    for place in range(openings.shape[1]):
        found = [sent.get(code) for code in distinct(openings[:, place]).tolist()]
        said = [message for message in found if message is not None and isinstance(message.get("content"), str)]
        rest = _rest(said[0]) if said else {}
        if not said or len(said) < len(found) or any(_rest(message) != rest for message in said):
            break
        texts = sorted({message["content"] for message in said})
        if len(texts) > 1 and rest.get("role") not in ("user", "system"):
            break
        items.append(_item(said[0], names.content(_shared_text(texts))))
    return items


def _rest(message: ChatMessage) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "content"}


def _item(message: ChatMessage, content: list[str | dict[str, str]]) -> dict[str, Any]:
    return {**_rest(message), "content": content}


def _shared_text(texts: Sequence[str]) -> Skeleton:
    """A skeleton that renders to all texts; found on a sample, to which what does not fit is added."""
    if len(texts) == 1:
        return [texts[0]] if texts[0] else []
    sample = list(texts[:: max(1, len(texts) // _SAMPLE)][:_SAMPLE])
    for _ in range(4):
        pieces = skeleton(sample)
        content = [piece if piece is not None else {"slot": f"s{i}"} for i, piece in enumerate(pieces)]
        misfits = [text for text in texts if extract(content, text) is None]
        if not misfits:
            return pieces
        sample += misfits[:: max(1, len(misfits) // _SAMPLE)][:_SAMPLE]
    return [SLOT]


def _demonstrations_at(calls: Calls, openings: Ints, longest: int) -> int | None:
    """Where demonstrations begin that are chosen anew for each call: user and assistant in turn before the question,
    all calls of one length, and the same pairs coming up again and again, as no conversation's would."""
    length = openings.shape[1]
    varying = [place for place in range(length) if (openings[:, place] != openings[0, place]).any()]
    if longest != length or len(openings) < 4 or not varying:
        return None
    start = varying[0]
    if (length - 1 - start) % 2 or length - 1 - start < 2:
        return None
    for place in range(start, length):
        wanted = "assistant" if (place - start) % 2 else "user"
        if set(calls.role[distinct(openings[:, place])]) != {wanted}:
            return None
    pairs = np.concatenate([openings[:, place : place + 2] for place in range(start, length - 1, 2)])
    kinds = np.unique(pairs, axis=0)
    answered_alike = len(np.unique(kinds[:, 0])) >= 0.95 * len(kinds)
    return start if answered_alike and len(kinds) < 0.7 * len(pairs) else None


def named_by_variables(mined: Mined, sent: Sent, found: Draft, rows: Ints) -> Draft:
    """The draft with slots named as the logged prompt variables whose values fill them."""
    sample = rows[-_SAMPLE:]
    logged = mined.variables(sample)
    before, _, after = fixed_items(found.template)
    candidates: dict[str, set[str]] = {}
    for row in sample.tolist():
        if not logged.get(row):
            continue
        for place, item in [*enumerate(before), *((i - len(after), item) for i, item in enumerate(after))]:
            code = int(mined.calls.at(np.array([row]), place)[0])
            for slot, value in (_bound(item, sent.get(code)) or {}).items():
                same = {name for name, variable in logged[row].items() if variable == value}
                candidates[slot] = candidates.get(slot, same) & same
    renamed: dict[str, str] = {}
    for slot, names in candidates.items():
        taken = {*renamed.values(), *found.template.slots}
        free = [name for name in sorted(names) if name not in taken and not RESERVED.fullmatch(name)]
        if free and slot not in found.unbound and slot not in names:
            renamed[slot] = free[0]
    if not renamed:
        return found
    items = tuple(_renamed(item, renamed) for item in found.template.messages)
    return Draft(
        template=Template(messages=items, tools=found.template.tools), unbound=found.unbound, flags=found.flags
    )


def _renamed(item: Mapping[str, Any], renamed: Mapping[str, str]) -> Mapping[str, Any]:
    if "content" not in item:
        return item
    content = [p if isinstance(p, str) else {"slot": renamed.get(p["slot"], p["slot"])} for p in item["content"]]
    return {**item, "content": content}
