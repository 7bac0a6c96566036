"""The ladder: how far a replayed episode follows its log, and which level's word counts."""

from dataclasses import replace
from hashlib import md5

import pytest
from flights import BASE, BOOK, BOOKED, FIND, Scripted, calling, case, episode, result, saying, user

from tracemill.errors import BudgetError
from tracemill.optimize.artifact import with_instructions
from tracemill.optimize.ladder import Ladder, Lint, Recorded, SingleStep, one_by_one
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.records import Artifact

DONE = saying("All done.")


class Rows(dict):
    """A cache that outlives its run."""

    def get(self, keys):
        return {key: self[key] for key in keys if key in self}

    def note(self, sources):
        pass

    def put(self, rows, model, now_ns, sources):
        self.update({key: text for key, text in rows.items() if key not in self})


def level(model, *logged, read_only=(), grade=lambda case, output: float("done" in output)):
    known = {one.trajectory_id: one for one in logged or (episode(),)}
    return Recorded(
        model=model,
        episodes=lambda cases: known,
        grade=one_by_one(grade),
        valid=lambda case, output: bool(output),
        read_only=frozenset(read_only),
    )


def replayed(*script, log=BOOKED, read_only=(), the_case=None):
    model = Scripted(*script)
    (outcome,) = level(model, episode(log), read_only=read_only)(BASE, [the_case or case()])
    return outcome, model


def test_the_same_calls_are_an_exact_replay_and_its_last_answer_is_judged():
    outcome, model = replayed(calling(FIND), calling(("book", '{ "bags":1, "flight":7}')), DONE)
    assert (outcome.fidelity, outcome.reward, outcome.valid, outcome.reached) == ("recorded:exact", 1.0, True, 3)
    assert outcome.completion.text == "All done."
    assert (outcome.completion.tokens_in, outcome.completion.cost_usd, outcome.completion.latency_ns) == (30, 1.5, 9)
    assert [m["role"] for m in model.asked[-1].messages] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert model.asked[-1].messages[3] == result(0, "flight 7")
    assert [m["role"] for m in outcome.way] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert outcome.way[1] == result(0, "flight 7")
    assert {one.about for one in model.asked} == {(md5(b"t").hexdigest(),)}, "its answers are forgotten with it"


def test_results_answer_the_ids_of_the_new_calls():
    own = calling(FIND)
    own["tool_calls"][0]["id"] = "mine"
    outcome, model = replayed(own, calling(BOOK), DONE)
    assert outcome.fidelity == "recorded:exact"
    assert model.asked[1].messages[-1] == {**result(0, "flight 7"), "tool_call_id": "mine"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"flight": "7", "bags": 1.0},
        {"flight": 7, "bags": 1, "seat": None},
        '{"flight": " 7 ", "bags": 1}',
    ],
)
def test_the_same_call_in_other_writing_is_equivalent(arguments):
    outcome, _ = replayed(calling(FIND), calling(("book", arguments)), DONE)
    assert (outcome.fidelity, outcome.reward) == ("recorded:equivalent", 1.0)


@pytest.mark.parametrize(
    ("script", "reached"),
    [
        ([calling(("find", {"from": "BER", "to": "BGO"}))], 1),
        ([calling(("cancel", {}))], 1),
        ([calling(BOOK)], 1),  # before it looked
        ([calling(FIND), calling(FIND)], 2),
        ([calling(FIND), calling(("book", "no JSON"))], 2),
        ([calling(FIND), calling(("book", '{"flight": NaN}'))], 2),
        ([calling(FIND), calling(BOOK), calling(BOOK)], 3),
    ],
)
def test_where_it_leaves_the_log_it_stops_and_nobody_judges(script, reached):
    outcome, model = replayed(*script, DONE, DONE)
    assert (outcome.fidelity, outcome.reward, outcome.valid) == ("recorded:divergent", None, None)
    assert (outcome.reached, len(model.asked), outcome.completion.error) == (reached, reached, None)


def test_tools_that_change_nothing_may_be_called_more_often_or_not_at_all():
    again, _ = replayed(calling(FIND), calling(FIND), calling(BOOK), DONE, read_only=["find"])
    assert (again.fidelity, again.reward, again.reached) == ("recorded:equivalent", 1.0, 4)
    skipped, _ = replayed(calling(BOOK), DONE, read_only=["find"])
    assert (skipped.fidelity, skipped.reward) == ("recorded:equivalent", 1.0)
    later, model = replayed(calling(BOOK), calling(FIND), DONE, read_only=["find"])
    assert (later.fidelity, later.reached) == ("recorded:equivalent", 3)
    assert model.asked[-1].messages[-1]["content"] == "flight 7"


def test_a_result_that_changed_in_the_log_is_given_in_its_place_only():
    log = (*BOOKED[:5], calling(FIND, first=2), result(2, "no flight"), saying("Booked; nothing is left."))
    same, model = replayed(calling(FIND), calling(BOOK), calling(FIND), DONE, log=log, read_only=["find"])
    assert same.fidelity == "recorded:exact"
    assert model.asked[-1].messages[-1]["content"] == "no flight"
    twice, _ = replayed(calling(FIND), calling(FIND), log=log, read_only=["find"])
    assert twice.fidelity == "recorded:divergent"


def test_calls_made_at_once_have_no_order():
    log = (user("both"), calling(FIND, BOOK), result(0, "flight 7"), result(1, "booked"), saying("ok"))
    swapped, model = replayed(calling(BOOK, FIND), DONE, log=log)
    assert (swapped.fidelity, swapped.reward) == ("recorded:equivalent", 1.0)
    assert [m["content"] for m in model.asked[-1].messages[-2:]] == ["booked", "flight 7"]
    in_a_row, _ = replayed(calling(FIND), calling(BOOK), DONE, log=log)
    assert (in_a_row.fidelity, in_a_row.reward) == ("recorded:equivalent", 1.0)


def test_an_episode_that_ends_earlier_is_judged_unless_somebody_spoke_later():
    early, _ = replayed(calling(FIND), DONE)
    assert (early.fidelity, early.reward, early.reached) == ("recorded:equivalent", 1.0, 2)
    log = (*BOOKED, user("And a seat?"), saying("12A"))
    spoken, _ = replayed(calling(FIND), DONE, log=log)
    assert spoken.fidelity == "recorded:divergent"


def test_what_a_user_answered_holds_for_what_was_said_only():
    log = (user("hi"), saying("Where to?"), user("Oslo"), saying("Fine."))
    same, _ = replayed(saying("Where to?"), DONE, log=log)
    assert (same.fidelity, same.reward) == ("recorded:exact", 1.0)
    blanks, _ = replayed(saying(" Where  to? "), DONE, log=log)
    assert blanks.fidelity == "recorded:equivalent"
    other, _ = replayed(saying("No."), DONE, log=log)
    assert (other.fidelity, other.reached) == ("recorded:divergent", 1)


def test_a_correction_of_another_call_does_not_judge_the_final_answer():
    seen = []

    def grade(case, output):
        seen.append((case.step, case.logged_output, case.correction))
        return 1.0

    model = Scripted(calling(FIND), calling(BOOK), DONE)
    first, last = case(step=0, correction="look first"), case(step=2, correction="say the number")
    level(model, grade=grade)(BASE, [first])
    both = level(model, grade=grade)(BASE, [last, first])
    assert seen == [(2, "Flight 7 is booked.", None), (2, "Flight 7 is booked.", "say the number")]
    assert [one.case_id for one in both] == ["t/2", "t/0"]


def test_a_last_call_of_a_tool_is_the_answer():
    log = (user("x"), calling(FIND), result(0, "flight 7"), calling(("submit", {"flight": 7})))
    outcome, _ = replayed(calling(FIND), calling(("submit", {"flight": "7"})), log=log)
    assert (outcome.fidelity, outcome.reached) == ("recorded:equivalent", 2)
    assert outcome.reward == 0.0  # it was judged


def test_a_call_that_fails_and_an_episode_that_is_not_told_have_no_reward():
    class Broken(Scripted):
        def complete(self, requests):
            return [replace(one, text=None, error="HTTP 500") for one in super().complete(requests)]

    (failed,) = level(Broken(DONE))(BASE, [case()])
    assert (failed.completion.error, failed.reward, failed.fidelity) == ("HTTP 500", None, "recorded:divergent")
    (untold,) = level(Scripted(DONE))(BASE, [case("unknown")])
    assert (untold.reward, untold.reached) == (None, 0)
    assert "whole episode" in untold.completion.error


EPISODES = [episode((user(f"to {n}"), *BOOKED[1:]), name=f"t{n}") for n in range(5)]
CASES = [case(f"t{n}") for n in range(5)]


class Dies(Scripted):
    """Breaks off at the call that is asked for when so many were answered."""

    def __init__(self, *script, after):
        super().__init__(*script)
        self.after = after

    def _one(self, request):
        if len(self.asked) == self.after:
            raise KeyboardInterrupt
        return super()._one(request)


@pytest.mark.parametrize("after", range(15))
def test_a_replay_killed_anywhere_pays_for_the_rest_only(after):
    cache, script = Rows(), (calling(FIND), calling(BOOK), DONE)

    def run(model):
        cached = CachedModel(model, cache, Ledger(Budget(calls=15)), now_ns=1, chunk=1)
        return level(cached, *EPISODES)(BASE, CASES)

    with pytest.raises(KeyboardInterrupt):
        run(Dies(*script, after=after))
    rest = Scripted(*script)
    outcomes = run(rest)
    assert len(rest.asked) == 15 - after
    assert {(one.fidelity, one.reward, one.reached) for one in outcomes} == {("recorded:exact", 1.0, 3)}


def test_the_budget_bounds_all_levels_together():
    ledger, model, cache = Ledger(Budget(calls=7)), Scripted(calling(FIND), calling(BOOK), DONE), Rows()
    cached = CachedModel(model, cache, ledger, now_ns=1, chunk=1)
    single = SingleStep(model=cached, grade=one_by_one(lambda c, o: None), valid=lambda c, o: True)
    cases = [replace(one, values=own.calls[0].values) for one, own in zip(CASES, EPISODES, strict=True)]
    single(BASE, cases)
    with pytest.raises(BudgetError):
        level(cached, *EPISODES)(BASE, cases)
    assert len(model.asked) == len(cache) == ledger.spent.calls == 7


def test_a_case_is_judged_by_the_first_level_that_can():
    model = Scripted(calling(FIND), calling(BOOK), DONE)
    alone = replace(case("t0"), values=EPISODES[0].calls[0].values)
    inside = replace(case("t1"), values=EPISODES[1].calls[0].values)
    single = SingleStep(
        model=model,
        grade=one_by_one(lambda case, output: 0.25),
        valid=lambda case, output: True,
        worth=lambda case: case.trajectory_id == "t0",
    )
    first, second = Ladder([single, level(model, *EPISODES)])(BASE, [alone, inside])
    assert (first.fidelity, first.reward) == ("single_step", 0.25)
    assert (second.fidelity, second.reward) == ("recorded:exact", 1.0)


def test_what_no_level_can_judge_says_why():
    model = Scripted(calling(FIND), calling(("cancel", {})))
    given = replace(case("t0"), values=EPISODES[0].calls[0].values)
    single = SingleStep(
        model=model, grade=one_by_one(lambda c, o: 1.0), valid=lambda c, o: True, worth=lambda case: False
    )
    (astray,) = Ladder([single, level(model, *EPISODES)])(BASE, [given])
    assert (astray.fidelity, astray.reached) == ("recorded:divergent", 2)
    (untold,) = Ladder([single, level(model, *EPISODES)])(BASE, [replace(given, trajectory_id="t9")])
    assert (untold.fidelity, untold.completion.error) == ("single_step", "nobody can judge this call alone")


def test_an_answer_that_its_judges_abstain_on_is_not_handed_to_others():
    model = Scripted(saying("?"))
    single = SingleStep(model=model, grade=one_by_one(lambda c, o: None), valid=lambda c, o: True)
    generous = SingleStep(model=model, grade=one_by_one(lambda c, o: 1.0), valid=lambda c, o: True)
    (outcome,) = Ladder([single, generous])(BASE, [replace(case(), values={"conversation": [user("hi")]})])
    assert (outcome.reward, outcome.completion.text) == (None, "?")


def test_what_lint_objects_to_is_asked_nobody():
    model = Scripted(DONE)
    single = SingleStep(model=model, grade=one_by_one(lambda c, o: 1.0), valid=lambda c, o: True)
    ladder = Ladder([single], lint=Lint(baseline=BASE))
    given = replace(case(), values={"conversation": [user("hi")]})
    (refused,) = ladder(with_instructions(BASE, "Please the grader."), [given])
    assert (refused.fidelity, refused.reward, refused.valid, model.asked) == ("lint", None, False, [])
    assert refused.completion.error == "lint: the system text speaks of how answers are judged: grader"
    (passed,) = ladder(with_instructions(BASE, "Be brief."), [given])
    assert (passed.fidelity, passed.reward) == ("single_step", 1.0)


def test_what_production_says_already_is_no_objection():
    own = with_instructions(BASE, "Write to desk@shop.example.")
    assert Lint(baseline=BASE).objection(own) is not None
    assert Lint(baseline=own).objection(own) is None
    assert Lint(baseline=own).objection(Artifact(prompt={**own.prompt, "tools": [{"type": "function"}]})) is not None
