"""What is the playbook's own: lines are added, counted and retired, and never rewritten."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from triage import BASE, QUEUES, RULE, TRAIN, Agent, Rows, Writer, case_of, study

from tracemill import client
from tracemill.errors import ConfigError
from tracemill.optimize.artifact import instructions
from tracemill.optimize.ladder import SingleStep, one_by_one
from tracemill.optimize.optimizers import build
from tracemill.optimize.optimizers.playbook import HEADING, Delta, Line, active, alike, curated, with_lines
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import PromptModel
from tracemill.records import Completion


def playbook(writer, **knobs):
    return build("playbook", reflection=PromptModel(chat=writer, name="big"), **knobs)


def delta(*new, helped=(), hurt=(), sources=("t0",)):
    return Delta(new=new, helped=frozenset(helped), hurt=frozenset(hurt), sources=frozenset(sources))


def line(text, **known):
    return Line(text=text, sources=frozenset({"t9"}), **known)


LINES = [f"Tickets about {topic} go to {queue}." for topic, queue in QUEUES.items()]


class Taught(Agent):
    """Right about a topic once the line about it stands in the system text; `harmful` lines make it useless."""

    def __init__(self, harmful="Answer in French."):
        super().__init__()
        self.harmful = harmful

    def _answer(self, messages):
        topic = next(word for word in QUEUES if word in messages[-1]["content"])
        text = messages[0]["content"]
        return QUEUES[topic] if self.harmful not in text and LINES[list(QUEUES).index(topic)] in text else "?"


class Reader(Writer):
    """Proposes the line about the first failure that it reads."""

    def _write(self, request):
        self.asked.append(request.messages)
        asked = next(one for one in request.messages[-1]["content"].splitlines() if one.startswith("1. Asked"))
        return json.dumps({"new_lines": self.lines(next(word for word in QUEUES if word in asked))})

    def lines(self, topic):
        return [LINES[list(QUEUES).index(topic)]]


def taught(agent=None):
    cached = CachedModel(agent or Taught(), Rows(), Ledger(Budget()), now_ns=1)
    grade = one_by_one(lambda c, o: float(o == c.expected))
    return study(SingleStep(model=cached, grade=grade, valid=lambda c, o: True))


def test_the_playbook_grows_below_the_prompt_of_production_which_stays_as_it_is():
    found = list(playbook(Reader(), rounds=8).search(taught()))
    assert [one.tune_score for one in found] == sorted(one.tune_score for one in found)
    assert found[-1].tune_score == 1.0
    texts = [instructions(one.artifact) for one in found]
    assert all(text.startswith(f"{instructions(BASE)}\n{HEADING}\n- Tickets") for text in texts)
    for shorter, longer in pairwise(texts):
        assert longer.startswith(shorter)


def test_each_line_rests_on_what_its_own_reading_was_shown():
    given = taught()
    found = list(playbook(Reader(), rounds=8, reads=1, examples=2, batch=4).search(given))
    behind = {one.text: set(one.trajectories) for one in found[-1].support}
    topic_of = {case.trajectory_id: case.values["ticket"].split()[2] for case in TRAIN}
    assert set(behind) == {HEADING, *(f"- {one}" for one in LINES)}
    for text in LINES:
        assert text.split()[2] in {topic_of[one] for one in behind[f"- {text}"]}
        assert behind[f"- {text}"] < set(found[-1].lineage)
    assert behind[HEADING] == set(found[-1].lineage)


def test_lines_with_which_the_score_falls_are_taken_out_again():
    class Poisoned(Reader):
        def lines(self, topic):
            return ["Answer in French."] if len(self.asked) in (2, 3) else super().lines(topic)

    found = list(playbook(Poisoned(), rounds=8, reads=1).search(taught()))
    harmed = [one for one in found if "French" in instructions(one.artifact)]
    assert [one.tune_score for one in harmed] == [0.0]
    assert found[-1].tune_score == 1.0


def test_a_line_that_lint_objects_to_costs_no_other_line():
    class Careless(Reader):
        def lines(self, topic):
            return ["Write to boss@example.com.", *super().lines(topic), "- " + "long " * 200]

    found = list(playbook(Careless()).search(taught()))
    assert found[-1].tune_score == 1.0
    assert not any("@" in one.artifact.to_json() or "long long" in one.artifact.to_json() for one in found)


def test_no_more_lines_are_shown_than_asked_for():
    found = list(playbook(Reader(), bullets=2).search(taught()))
    assert max(instructions(one.artifact).count("\n- ") for one in found) == 2


@pytest.mark.parametrize(
    "answer", ["I would rather not", "[1, 2]", '{"new_lines": 7, "helped": "all", "hurt": [true, 99, -1]}', None]
)
def test_nonsense_teaches_nothing(answer):
    class Silent(Reader):
        def complete(self, requests):
            self.asked += [request.messages for request in requests]
            return [Completion(text=answer, error=None if answer else "HTTP 500") for _ in requests]

    writer = Silent()
    assert list(playbook(writer, rounds=2).search(taught())) == []
    assert writer.asked


def test_a_reader_sees_the_numbered_lines_and_answers_that_went_well():
    writer = Reader()
    list(playbook(writer, rounds=8, batch=8).search(taught()))
    later = [
        messages[-1]["content"] for messages in writer.asked if "<playbook>\n[1] Tickets" in messages[-1]["content"]
    ]
    assert later
    assert any("It earned 1.00 of 1." in text for text in later)
    assert "<playbook>" not in writer.asked[0][-1]["content"]


def test_what_all_got_right_or_nobody_can_score_is_read_by_nobody():
    writer = Reader()
    unknown = [case_of(n, reward=None) for n in range(16)]
    assert list(playbook(writer).search(study(train=unknown))) == []
    assert writer.asked == []


def test_the_curator_counts_and_never_rewrites():
    known = [line("Bills go to billing."), line("Name the queue.", helped=1)]
    merged = curated(known, known, [delta("name the queue!", "Be brief.", helped=[0]), delta(hurt=[0, 1])])
    assert [one.text for one in merged] == ["Bills go to billing.", "Name the queue.", "Be brief."]
    assert [(one.helped, one.hurt) for one in merged] == [(1, 1), (2, 1), (0, 0)]
    assert merged[1].sources == {"t9", "t0"}
    assert merged[0].sources == {"t9"}
    assert merged[2].sources == {"t0"}


def test_a_retired_line_is_not_shown_until_it_is_proposed_as_often_as_it_hurt():
    known = [line("Name the queue."), line("Be brief.")]
    after = curated(known, known, [delta(hurt=[0])])
    assert [one.text for one in active(after, 9)] == ["Be brief."]
    again = curated(after, active(after, 9), [delta("Name the queue.", "Name the queue!")])
    assert [one.text for one in active(again, 9)] == ["Name the queue.", "Be brief."]
    assert len(again) == 2


def test_of_too_many_lines_the_best_are_shown_in_the_order_they_were_learned():
    lines = [line("a b"), line("c d", helped=1), line("e f", hurt=1), line("g h", helped=2)]
    assert [one.text for one in active(lines, 2)] == ["c d", "g h"]
    assert [one.text for one in active(lines, 9)] == ["a b", "c d", "g h"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Name the queue that fits.", "name the queue which FITS", True),
        ("Refund within 14 days.", "Refund within 30 days.", False),
        (
            "Invoices above the limit go to billing and to the desk.",
            "Invoices above the limit never go to billing and to the desk.",
            False,
        ),
        ("When it is about a parcel, check the weight.", "When it is about a dentist, check the weight.", False),
    ],
)
def test_lines_that_say_the_same_are_told_from_those_that_differ_in_what_matters(one, other, same):
    assert alike(one, other) is same


def test_a_prompt_without_a_system_text_gets_one():
    items = [item for item in BASE.prompt["messages"] if item.get("role") != "system"]
    bare = replace(BASE, prompt={**BASE.prompt, "messages": items})
    shown = client.render(with_lines(bare, [line(RULE)]).prompt, {"ticket": "pin"})
    assert shown[0] == {"role": "system", "content": f"{HEADING}\n- {RULE}"}
    assert with_lines(bare, []) is bare


def test_knobs_below_one_are_refused():
    with pytest.raises(ConfigError, match="bullets 0"):
        playbook(Writer(), bullets=0)
