"""Decontamination: every planted leak is found, what only looks alike is not, and no answer is no permission."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tracemill.errors import ContaminationError, EndpointError
from tracemill.mining.decontaminating import Near, near, own_texts
from tracemill.mining.embedding import HashingEmbedder, Vectors
from tracemill.records import Case

KEY = b"k" * 32
DIFFERENT = (
    "the kettle that arrived on monday is broken and leaks water",
    "please tell me when my parcel will be delivered",
    "I was charged twice, give me one payment back",
    "how do I change the password of my account",
    "the colour of the curtains is not what the picture showed",
    "can the invoice be sent to another company",
)


def case(trajectory: str, text: str | Sequence[str], *, group: str | None = None, pool: Any = "learn") -> Case:
    values: dict[str, Any] = {"ticket": text} if isinstance(text, str) else {
        "conversation": [{"role": ("user", "assistant")[i % 2], "content": said} for i, said in enumerate(text)]
    }  # fmt: skip
    said = [text] if isinstance(text, str) else list(text)
    return Case(
        case_id=f"{trajectory}/0", trajectory_id=trajectory, step=0, site_id="s", task_key=None,
        task_group=group or f"g{trajectory}", pool=pool, values=values,
        logged_messages=tuple({"role": "user", "content": f"Sort this ticket: {one}"} for one in said),
        logged_output="x", reward=1.0,
    )  # fmt: skip


class Told:
    """An embedder that says of some texts that they mean the same."""

    name = "told"

    def __init__(self, *same: str) -> None:
        self.same = same

    def embed(self, texts: Sequence[str]) -> Vectors:
        found = np.zeros((len(texts), 64), dtype=np.float32)
        for i, text in enumerate(texts):
            found[i, 63 if text in self.same else i % 63] = 1
        return found


def check(lake: Any, learn: Sequence[Case], gate: Sequence[Case], embedder: Any = None) -> list[Near]:
    return near(lake.con, learn, gate, embedder=embedder or HashingEmbedder(), key=KEY)


def test_cases_that_have_nothing_in_common_stay(lake: Any) -> None:
    learn = [case(f"l{i}", text) for i, text in enumerate(DIFFERENT[:3])]
    gate = [case(f"g{i}", text, pool="gate") for i, text in enumerate(DIFFERENT[3:])]
    assert check(lake, learn, gate) == []
    assert check(lake, learn, []) == []
    assert check(lake, [], gate) == []


@pytest.mark.parametrize(
    ("planted", "how"),
    [
        (DIFFERENT[3], "prompt"),
        ("How do I change the password of my account!!", "words"),
        ("how do i change   the password of my account", "words"),
    ],
)
def test_a_repeated_text_is_found(lake: Any, planted: str, how: str) -> None:
    gate = [case(f"g{i}", text, pool="gate") for i, text in enumerate(DIFFERENT[3:])]
    learn = [case("clean", DIFFERENT[0]), case("planted", planted)]
    assert check(lake, learn, gate) == [Near(case_id="planted/0", gate_case_id="g0/0", how=how)]


def test_a_task_group_in_both_pools_is_found(lake: Any) -> None:
    learn, gate = [case("a", DIFFERENT[0], group="same")], [case("b", DIFFERENT[1], group="same", pool="gate")]
    assert [one.how for one in check(lake, learn, gate)] == ["task"]


def test_a_long_text_inside_another_is_found(lake: Any) -> None:
    story = " ".join(f"word{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}" for i in range(60))
    other = " ".join(f"thing{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}{i // 100}" for i in range(400))
    gate = [case("g", story, pool="gate")]
    learn = [case("around", f"{other} {story} {other[::-1]}"), case("beside", other)]
    assert [(one.case_id, one.how) for one in check(lake, learn, gate)] == [("around/0", "overlap")]


def test_the_same_in_other_words_is_found_by_its_meaning(lake: Any) -> None:
    wordings = ("where is my order", "has the shipment left yet")
    learn, gate = [case("a", wordings[0]), case("b", DIFFERENT[0])], [case("c", wordings[1], pool="gate")]
    assert check(lake, learn, gate, Told()) == []
    (found,) = check(lake, learn, gate, Told(*wordings))
    assert (found.case_id, found.how) == ("a/0", "meaning")


def test_a_user_who_asks_again_leaks_sooner_than_another(lake: Any) -> None:
    said = "my blue kettle from the spring sale does not boil water any more"
    again = "my blue kettle from the spring sale does not boil the milk any more"
    learn = [case("a", again), case("b", again)]
    gate = [case("c", said, pool="gate")]
    assert check(lake, learn, gate) == []
    lake.trajectory("a", user_key="u1")
    lake.trajectory("b", user_key="u2")
    lake.trajectory("c", user_key="u1", pool="gate")
    assert check(lake, learn, gate) == [Near(case_id="a/0", gate_case_id="c/0", how="user")]


def test_what_all_cases_share_makes_none_alike(lake: Any) -> None:
    schema = "\n".join(f"table number{i} has the columns id, name and price" for i in range(30))
    subjects = [f"{one} {other}" for one in ("count", "list", "sum", "join", "drop") for other in DIFFERENT]
    learn = [case(f"l{i}", f"{schema}\n{subject}") for i, subject in enumerate(subjects[:15])]
    gate = [case(f"g{i}", f"{schema}\n{one}", pool="gate") for i, one in enumerate(("why", "who are we", "at noon"))]
    gate += [case(f"h{i}", f"{schema}\nzebra{'abcdefgh'[i]} lion", pool="gate") for i in range(8)]
    assert all("table number" not in text for text in own_texts([*learn, *gate]))
    assert check(lake, learn, gate) == []


def test_conversations_are_compared_by_what_was_said(lake: Any) -> None:
    learn = [case("a", ["my kettle is broken", "sorry", DIFFERENT[0]]), case("b", [DIFFERENT[1], "yes", DIFFERENT[2]])]
    gate = [case("c", ["my kettle is broken", "sorry", DIFFERENT[0]], pool="gate")]
    assert [one.case_id for one in check(lake, learn, gate)] == ["a/0"]


def test_numbers_and_names_make_no_difference_but_texts_without_words_are_not_alike(lake: Any) -> None:
    gate = [case("g", "cancel order 4711 of Miller", pool="gate"), case("h", "12 + 30", pool="gate")]
    learn = [case("a", "cancel order 815 of Smith"), case("b", "?? !! ..")]
    assert [one.case_id for one in check(lake, learn, gate)] == ["a/0"]


class Broken:
    name = "broken"

    def __init__(self, found: Any) -> None:
        self.found = found

    def embed(self, texts: Sequence[str]) -> Vectors:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found(len(texts))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "found",
    [
        EndpointError("http://x/embeddings", "is down"),
        ValueError("no such model"),
        MemoryError("too much"),
        lambda n: np.full((n, 4), np.nan, dtype=np.float32),
        lambda n: np.zeros((n - 1, 4), dtype=np.float32),
        lambda n: np.zeros(n, dtype=np.float32),
    ],
    ids=["dead", "wrong", "memory", "nan", "too few", "flat"],
)
def test_what_cannot_be_found_out_stops_learning(lake: Any, found: Any) -> None:
    with pytest.raises(ContaminationError, match="nothing is learned"):
        check(lake, [case("a", DIFFERENT[0])], [case("b", DIFFERENT[1], pool="gate")], Broken(found))
