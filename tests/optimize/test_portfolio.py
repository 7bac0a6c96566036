"""Optimizers that race for one budget: equal shares, the better half goes on, and going on costs nothing twice."""

from dataclasses import replace

from triage import RULE, TUNE, Agent, Rows, evaluator, make, study

from tracemill.errors import BudgetError
from tracemill.optimize.artifact import instructions, with_instructions
from tracemill.optimize.choosing import winner
from tracemill.optimize.ladder import SingleStep
from tracemill.optimize.portfolio import Standing, run
from tracemill.optimize.replay import Budget, Ledger
from tracemill.optimize.search import candidate, tuned


class Trying:
    """Tries one text after the other on all tuning cases."""

    def __init__(self, name, texts):
        self.name = name
        self.texts = texts

    def search(self, given):
        for text in self.texts:
            artifact = with_instructions(given.baseline, f"{instructions(given.baseline)} {text}")
            yield candidate(given, self.name, artifact, tuned(given, artifact))


def wasteful(name="wasteful", n=99):
    return Trying(name, [f"{name} {number}" for number in range(n)])


def race(optimizers, calls, *, cache=None, agent=None):
    ledger, told = Ledger(Budget(calls=calls)), []
    ran = run(
        study(evaluator(agent or Agent(), cache=cache, ledger=ledger)),
        optimizers,
        on_candidate=lambda one: None,
        on_error=lambda name, error: told.append((name, type(error))),
        ledger=ledger,
    )
    return ran.candidates, {one.optimizer: one for one in ran.standings}, told, ledger.spent.calls


def test_what_finds_nothing_makes_room_for_what_does():
    slow = Trying("slow", [*(f"step {n}" for n in range(4)), RULE, *(f"more {n}" for n in range(90))])
    found, standings, _, calls = race([wasteful("one"), slow, wasteful("two"), wasteful("three")], 12 * 41)
    assert max(one.tune_score for one in found) == 1.0
    assert calls <= 12 * 41
    assert [standings[name].ended for name in ("one", "two", "three")].count("dropped") == 3
    assert standings["slow"].ended == "budget"
    assert standings["slow"].calls > 2 * max(standings[name].calls for name in ("one", "two", "three"))


def test_a_prompt_that_gives_its_judges_nothing_to_judge_is_not_better():
    class Evading(Agent):
        """Right where it is easy, and evasive elsewhere, when told so."""

        def _answer(self, messages):
            easy = "pin" in messages[-1]["content"]
            if "evade" in messages[0]["content"]:
                return "cards" if easy else "(silent)"
            return "cards" if easy else "?"

    class Judged(SingleStep):
        def __call__(self, artifact, cases):
            found = super().__call__(artifact, cases)
            return [replace(one, reward=None) if one.completion.text == "(silent)" else one for one in found]

    level = evaluator(Evading())
    judged = Judged(model=level.model, grade=level.grade, valid=level.valid)
    found = run(study(judged), [Trying("evading", ["evade"])], on_candidate=lambda one: None).candidates
    assert [(one.tune_score, one.tune_n) for one in found] == [(0.25, 12), (0.25, 12)]
    assert winner(found) == []


def test_nobody_is_dropped_before_it_could_show_two_prompts():
    late = Trying("late", ["first", RULE])
    found, standings, _, _ = race([wasteful("one"), late, wasteful("two"), wasteful("three")], 12 * 9)
    assert max(one.tune_score for one in found) == 1.0
    assert standings["late"].ended == "done"
    assert "dropped" not in [one.ended for one in standings.values()]


def test_who_is_done_leaves_its_share_to_the_others():
    found, standings, _, calls = race([make("nearest"), wasteful(n=30)], 12 * 34)
    assert standings["nearest"] == Standing(optimizer="nearest", rounds=1, calls=24, best=1.0, ended="done")
    assert standings["wasteful"].ended == "done"
    assert len(found) == 1 + 2 + 30
    assert calls == 12 * 33


def test_going_on_costs_nothing_twice_and_a_killed_race_goes_on_too():
    cache, agent = Rows(), Agent()
    texts = ["a", "b", "c", RULE, *(f"more {n}" for n in range(16))]
    optimizers = [Trying("good", texts), wasteful(n=40)]
    found, standings, told, calls = race(optimizers, 12 * 30, cache=cache, agent=agent)
    assert standings["good"].ended == "done"
    assert agent.calls == calls == len(cache) <= 12 * 30
    again, _, _, _ = race(optimizers, 12 * 30, cache=cache, agent=(second := Agent()))
    assert {one.candidate_id for one in found} <= {one.candidate_id for one in again}
    assert second.calls <= 12 * 30
    assert told == [] or told[-1][1] is BudgetError


def test_a_budget_without_bounds_lets_every_optimizer_end():
    found, standings, told, _ = race([wasteful(n=3), make("labeled_few_shot")], None)
    assert {one.ended for one in standings.values()} == {"done"}
    assert told == []
    assert len(found) == 1 + 3 + 4


def test_a_failing_optimizer_is_told_and_its_share_goes_to_the_others():
    class Broken:
        name = "broken"

        def search(self, given):
            raise ValueError("broken")
            yield

    found, standings, told, _ = race([Broken(), make("nearest")], 12 * 10)
    assert (standings["broken"].ended, standings["nearest"].ended) == ("failed", "done")
    assert told == [("broken", ValueError)]
    assert len(found) == 3


def test_loans_lie_in_each_other_and_end():
    ledger = Ledger(Budget(calls=100))
    ask = evaluator(ledger=ledger)
    with ledger.lent(0.5), ledger.lent(0.5):
        assert ledger.take(99) == 25
        ledger.settle(25, [])
        assert not ledger.used_up
    ask(study().baseline, TUNE)
    assert ledger.spent.calls == 37
    assert ledger.take(99) == 63
    ledger.settle(63, [])
    assert ledger.used_up
    assert replace(ledger.budget, calls=None) == Budget()
