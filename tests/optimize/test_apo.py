"""Where APO differs from the one it is modelled on: how prompts are compared, and what costs no call."""

import json

from triage import BASE, QUEUES, RULE, TRAIN, TUNE, Agent, Rows, Writer, case_of, evaluator, study

from tracemill.optimize.artifact import instructions
from tracemill.optimize.ladder import SingleStep, one_by_one
from tracemill.optimize.optimizers import build
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import PromptModel
from tracemill.records import Completion


def apo(writer, **knobs):
    return build("apo", reflection=PromptModel(chat=writer, name="big"), **knobs)


class Recording:
    """An Evaluate that notes which prompt saw which cases."""

    def __init__(self):
        self.seen = {}
        self.replay = evaluator()

    def __call__(self, artifact, cases):
        self.seen.setdefault(instructions(artifact), []).extend(case.case_id for case in cases)
        return self.replay(artifact, cases)


class Various(Writer):
    """Writes another edit each time; the one with the rule last."""

    def _write(self, request):
        text = super()._write(request)
        edits = sum("critique" not in one[-1]["content"][-60:] for one in self.asked)
        rule = RULE if edits >= 8 else f"Be quick {edits}."
        return text.replace(RULE, rule)


def test_all_prompts_are_compared_on_the_same_tuning_cases():
    evaluate = Recording()
    found = list(apo(Various(), rounds=2).search(study(evaluate)))
    tune = {case.case_id for case in TUNE}
    screens = set()
    for text, seen in evaluate.seen.items():
        on_tune = [one for one in seen if one in tune]
        screens.add(tuple(on_tune[:5]) if text != instructions(BASE) else ())
    assert len(screens - {()}) == 1
    assert len(found) > 2
    assert all(one.tune_n == len(TUNE) for one in found)
    assert max(one.tune_score for one in found) == 1.0


def test_no_prompt_is_tried_twice_and_a_lost_slot_costs_no_replay():
    agent = Agent()
    tried = list(apo(Writer(), rounds=3).search(study(evaluator(agent))))
    assert len(tried) == 1  # eight equal edits a round
    before = len(TUNE) + len(TRAIN)
    agent = Agent()
    assert list(apo(Writer(new_instruction="No slot. " + RULE), rounds=1).search(study(evaluator(agent)))) == []
    assert agent.calls == before


def test_each_round_reads_other_cases_and_the_next_edit_starts_from_the_best():
    writer = Various()
    list(apo(writer, rounds=3, batch=4).search(study()))
    critiques = [one[-1]["content"] for one in writer.asked if "critique" in one[-1]["content"][-60:]]
    assert len({frozenset(line for line in one.splitlines() if "Asked:" in line) for one in critiques}) > 3
    assert any("<prompt>\nSort tickets of {{company}}. Be quick" in one for one in critiques)


def test_a_line_rests_on_the_failures_that_its_own_edit_was_shown():
    class Adding(Writer):
        """Adds a line to the prompt that it is shown."""

        def _write(self, request):
            told = super()._write(request)
            if "critique" in told:
                return told
            prompt = request.messages[-1]["content"].split("<prompt>\n")[1].split("\n</prompt>")[0]
            return json.dumps({"new_instruction": f"{prompt.rstrip()}\n- Line {len(self.asked)}."})

    given = study()
    found = list(apo(Adding(), rounds=2, edits=2, examples=2, batch=4).search(given))
    grown = [one for one in found if len(one.support) > 1]
    assert grown
    for one in grown:
        older, newer = one.support[-2:]
        assert (len(older.trajectories), len(newer.trajectories)) == (2, 2)
        assert {*older.trajectories, *newer.trajectories} == set(one.lineage)


def test_what_nobody_can_score_is_no_failure():
    unknown = [case_of(n, reward=None) for n in range(16)]
    writer = Writer()
    assert list(apo(writer).search(study(train=unknown))) == []
    assert writer.asked == []


def test_a_call_of_the_writer_that_fails_or_says_nonsense_costs_one_edit_only():
    class Flaky(Writer):
        def complete(self, requests):
            done = super().complete(requests)
            broken = [Completion(text=None, error="HTTP 500"), Completion(text="I would rather not")]
            return [*broken, *done[2:]]

    found = list(apo(Flaky(), rounds=1).search(study()))
    assert [one.tune_score for one in found] == [1.0]


def test_an_answer_in_a_fence_with_line_ends_in_it_is_read():
    class Fenced(Writer):
        def _write(self, request):
            told = json.loads(super()._write(request))
            body = ", ".join(f'"{key}": "{value}\nsecond line"' for key, value in told.items())
            return "Here it is:\n```json\n{" + body + "}\n```"

    (found,) = apo(Fenced(), rounds=1).search(study())
    assert instructions(found.artifact).endswith("second line")


def test_the_beam_goes_on_from_better_prompts():
    """Half of the queues need one line, half another: two rounds find both, one does not."""
    lines = ["Bills and cards by name.", "Parcels and accounts by name."]
    halves = [list(QUEUES)[:2], list(QUEUES)[2:]]

    class Halves(Agent):
        def _answer(self, messages):
            topic = next(word for word in QUEUES if word in messages[-1]["content"])
            which = topic not in halves[0]
            return QUEUES[topic] if lines[which] in messages[0]["content"] else "?"

    class Reader(Writer):
        """Adds the line that the first shown failure asks for, to the prompt that it is shown."""

        def _write(self, request):
            self.asked.append(request.messages)
            text = request.messages[-1]["content"]
            if "critique" in text[-60:]:
                asked = next(line for line in text.splitlines() if "1. Asked" in line)
                topic = next(word for word in QUEUES if word in asked)
                return json.dumps({"critique": lines[topic not in halves[0]]})
            prompt = text.split("<prompt>\n")[1].split("\n</prompt>")[0]
            said = text.split("<critique>\n")[1].split("\n</critique>")[0]
            return json.dumps({"new_instruction": f"{prompt.strip()} {said}"})

    def best(rounds):
        cached = CachedModel(Halves(), Rows(), Ledger(Budget()), now_ns=1)
        right = one_by_one(lambda c, o: float(o == c.expected))
        replay = SingleStep(model=cached, grade=right, valid=lambda c, o: True)
        return max(one.tune_score for one in apo(Reader(), rounds=rounds).search(study(replay)))

    assert (best(1), best(2)) == (0.5, 1.0)
