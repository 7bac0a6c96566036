"""Constant text and slots, recovered from renderings; what is bound renders back byte for byte."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.client import render
from tracemill.ids import PSEUDONYM
from tracemill.mining.align import SLOT, SlotNames, label, skeleton
from tracemill.mining.binding import KINDS, bind, extract
from tracemill.records import Template

BODIES = [
    "I lost my card",
    "I want my money back: now",
    "My app\ncrashes",
    "Why?",
    "It's - odd",
    "no",
    "Ich bin's",
    "?",
]


def content_of(texts: list[str]) -> list[str | dict[str, str]]:
    return SlotNames().content(skeleton(texts))


def test_constant_text_around_and_between_two_slots_is_found() -> None:
    texts = [f"Route this.\nFrom: {name} {i}\nTicket: {body}\nQueue:" for i, body in enumerate(BODIES) for name in "AB"]
    assert content_of(texts) == [
        "Route this.\nFrom: ",
        {"slot": "from"},
        "\nTicket: ",
        {"slot": "ticket"},
        "\nQueue:",
    ]


def test_a_few_inputs_that_begin_alike_put_nothing_of_theirs_into_the_prompt() -> None:
    assert content_of(["Ticket: I lost my card", "Ticket: I want money"]) == ["Ticket: ", {"slot": "ticket"}]
    assert content_of(["I lost my card.", "I want money."]) == [{"slot": "input"}]
    assert content_of([f"Do you sell item {word}?" for word in ("one", "two", "three")]) == [{"slot": "input"}]


def test_many_inputs_are_believed_where_constant_text_ends_without_a_delimiter() -> None:
    texts = [f"Route this ticket {chr(97 + i)}x{i} into a queue" for i in range(26)]
    assert content_of(texts) == ["Route this ticket ", {"slot": "input"}, " into a queue"]


def test_a_full_stop_belongs_to_the_program_behind_names_and_to_the_sentence_behind_sentences() -> None:
    names = ["Ada", "Luis", "Mei Li", "Olu", "Petra", "Sam", "Ines", "Karim"]
    assert content_of([f"You speak with {name}." for name in names]) == ["You speak with ", {"slot": "input"}, "."]
    sentences = [
        f"The lock of door {name} does {i} times what a lock at {name} should." for i, name in enumerate(names)
    ]
    assert content_of(
        sentences[:4] + [f"{name} lost {i} keys near the old bridge." for i, name in enumerate(names)]
    ) == [{"slot": "input"}]


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("Ticket: ", "ticket"),
        ("Route it.\n\nCustomer name: ", "customer_name"),
        ("<user_query>", "user_query"),
        ('Question = "', "question"),
        ("### Input text:\n", "input_text"),
        ("Say something about ", "input"),
        ("", "input"),
    ],
)
def test_a_slot_is_named_by_the_label_before_it(before: str, name: str) -> None:
    assert label(before) == name


def test_slot_names_are_unique_and_never_reserved() -> None:
    names = SlotNames()
    content = names.content(["Email: ", SLOT, "\nEmail: ", SLOT, "\nEmail: ", SLOT, "\nConversation: ", SLOT])
    slots = [piece["slot"] for piece in content if not isinstance(piece, str)]
    assert slots == ["email", "email_text_2", "email_text_3", "conversation_text"]


def test_a_pseudonym_in_constant_text_is_a_slot_that_waits_for_its_value() -> None:
    names = SlotNames()
    text = "Write to [EMAIL_0123abcd] or [USER_00000000], again [EMAIL_0123abcd]. Ticket: "
    content = names.content([text, SLOT])
    assert names.unbound == ["email_1", "user_1"]
    values = extract(content, text + "hello")
    assert values == {"email_1": "[EMAIL_0123abcd]", "user_1": "[USER_00000000]", "ticket": "hello"}
    assert extract(content, text.replace("again [EMAIL_0123abcd]", "again [EMAIL_ffffffff]") + "hello") is None


def test_binding_ends_a_slot_at_the_first_place_and_the_last_slot_at_the_end() -> None:
    content = ["A:", {"slot": "a"}, ";B:", {"slot": "b"}, ";"]
    assert extract(content, "A:x;B:y;B:z;;") == {"a": "x", "b": "y;B:z;"}
    assert extract(content, "A:x;C:y;") is None


def test_binding_long_text_that_does_not_fit_takes_no_exponential_time() -> None:
    content = [piece for i in range(12) for piece in (f"{i % 2},", {"slot": f"s{i}"})] + ["end"]
    assert extract(content, "0,1," * 20_000) is None


_TEXT = st.text(alphabet=st.sampled_from("ab:\n <>`I.é"), max_size=12)


@given(st.lists(_TEXT, min_size=1, max_size=30, unique=True), _TEXT, _TEXT, _TEXT)
def test_a_skeleton_renders_to_every_text_it_was_made_of(
    fills: list[str], before: str, between: str, after: str
) -> None:
    texts = sorted({f"{before}{fill}{between}{fill[::-1]}{after}" for fill in fills})
    content = content_of(texts)
    for text in texts:
        values = extract(content, text)
        assert values is not None
        assert render({"messages": [{"role": "user", "content": content}]}, values)[0]["content"] == text


def by_pattern(content: list[Any], text: str) -> dict[str, str] | None:
    """What `extract` is to find, by a regular expression of atomic groups."""
    names: list[str] = []
    out: list[str] = []
    unbound = [not isinstance(p, str) and re.fullmatch(rf"{KINDS}_\d+", p["slot"]) is not None for p in content]
    free = [i for i, piece in enumerate(content) if not isinstance(piece, str) and not unbound[i]]
    for i, piece in enumerate(content):
        if isinstance(piece, str):
            out.append(re.escape(piece))
        elif piece["slot"] in names:
            out.append(f"(?P=g{names.index(piece['slot'])})")
        else:
            group = f"(?P<g{len(names)}>"
            names.append(piece["slot"])
            if unbound[i]:
                out.append(f"{group}{PSEUDONYM.pattern.replace('(', '(?:')})")
            elif i == free[-1]:
                out.append(f"{group}.*)")
            else:
                follow = content[i + 1]
                out.append(f"(?>{group}.*?)(?={re.escape(follow)}))" if isinstance(follow, str) else f"{group})")
    hit = re.compile("".join(out), re.DOTALL).fullmatch(text)
    return None if hit is None else {name: hit[f"g{i}"] for i, name in enumerate(names)}


_NEAR = st.text(alphabet=st.sampled_from("a:"), max_size=3)
_FILLED = st.one_of(_NEAR, st.sampled_from(["[EMAIL_0123abcd]", "[X_A_0123abcd]"]))
_SLOT = st.sampled_from([{"slot": name} for name in ("a", "b", "c", "email_1", "x_a_1")])


@given(st.lists(st.one_of(_NEAR, _SLOT), max_size=7), st.lists(_FILLED, max_size=5), st.data())
def test_what_binds_is_what_a_regular_expression_of_atomic_groups_finds(
    content: list[Any], others: list[str], data: st.DataObject
) -> None:
    fills = {piece["slot"]: data.draw(_FILLED) for piece in content if not isinstance(piece, str)}
    rendered = "".join(piece if isinstance(piece, str) else fills[piece["slot"]] for piece in content)
    for text in (rendered, "".join(others)):
        assert extract(content, text) == by_pattern(content, text)


_PIECE = st.one_of(_TEXT, st.sampled_from([{"slot": "a"}, {"slot": "b"}, {"slot": "email_1"}]))
_ITEM = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "user", "assistant"]),
    st.lists(_PIECE, max_size=4),
)
_TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": _TEXT})


@given(st.lists(_ITEM, max_size=3), st.booleans(), st.lists(_ITEM, max_size=2), st.lists(_TURN, max_size=4), st.data())
def test_what_is_bound_renders_to_exactly_what_was_sent(
    before: list[dict[str, object]],
    talks: bool,
    after: list[dict[str, object]],
    turns: list[dict[str, str]],
    data: st.DataObject,
) -> None:
    items = [*before, *([{"conversation": True}] if talks else []), *after]
    template = Template(messages=tuple(items))
    values = {name: data.draw(_TEXT) for name in ("a", "b")} | {"email_1": "[EMAIL_0123abcd]", "conversation": turns}
    sent = render({"messages": items}, values)
    for messages in (sent, turns):
        bound = bind(template, messages)
        assert bound is None or render({"messages": items}, bound) == messages
    slots = [p["slot"] for item in items for p in item.get("content", ()) if not isinstance(p, str)]  # type: ignore[attr-defined]
    if len(slots) <= 1:
        assert bind(template, sent) is not None
