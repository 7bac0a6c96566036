"""The contract of every optimizer, and what each is for, on an agent whose success depends on its prompt."""

from dataclasses import replace

import pytest
from triage import BASE, RULE, SITE, TRAIN, TUNE, Agent, Rows, Writer, case_of, evaluator, make, study

from tracemill.errors import BudgetError, ConfigError, EndpointError, StoreError
from tracemill.optimize.artifact import baseline, instructions, pool_of
from tracemill.optimize.optimizers import NEED_REFLECTION, OPTIMIZERS, build
from tracemill.optimize.portfolio import run
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import tune_score
from tracemill.records import Template


@pytest.fixture(params=sorted(OPTIMIZERS))
def name(request):
    return request.param


def test_every_optimizer_finds_a_prompt_that_scores_better_than_production(name):
    evaluate = evaluator()
    before, n = tune_score(TUNE, evaluate(BASE, TUNE))
    assert (before, n) == (0.0, 12)
    found = list(make(name).search(study(evaluate)))
    best = max(found, key=lambda one: one.tune_score)
    assert best.tune_score == 1.0
    assert best.tune_n == 12
    for one in found:
        assert (one.branch, one.optimizer, one.site_id, one.site_version) == ("prompt", name, "triage", "v1")
        assert one.artifact != BASE
        assert one.tune_score == tune_score(TUNE, evaluate(one.artifact, TUNE))[0]


def test_a_prompt_without_a_system_text_is_written_on_as_one():
    class Plain(Agent):
        def _answer(self, messages):
            return super()._answer(messages) if messages[0]["role"] == "system" else "?"

    bare = replace(SITE, template=Template(messages=SITE.template.messages[-1:]))
    writer = Writer(new_instruction=RULE)
    train, tune = ([replace(one, values={"ticket": one.values["ticket"]}) for one in cases] for cases in (TRAIN, TUNE))
    alone = replace(study(evaluator(Plain()), train=train, tune=tune), site=bare, baseline=baseline(bare))
    found = list(make("gepa", writer).search(alone))
    assert {instructions(one.artifact) for one in found} == {RULE}
    assert writer.asked
    assert "produce the fields" not in str(writer.asked), "DSPy's own words stand for no instruction of production"


def test_two_searches_give_the_same_stream(name):
    optimizer = make(name)
    streams = [[(one.candidate_id, one.tune_score, one.lineage) for one in optimizer.search(study())] for _ in range(2)]
    assert streams[0] == streams[1]
    assert streams[0]
    assert len({one[0] for one in streams[0]}) == len(streams[0])


def test_gate_cases_are_refused_before_any_call(name):
    model = Agent()
    for train, tune in (([*TRAIN, case_of(50, pool="gate")], TUNE), (TRAIN, [case_of(50, pool="gate")])):
        with pytest.raises(ConfigError, match="t050/0 belongs to the gate pool"):
            list(make(name).search(study(evaluator(model), train=train, tune=tune)))
    assert model.calls == 0


def test_a_study_replays_no_case_but_its_own():
    model = Agent()
    for strange in (case_of(50), case_of(50, pool="gate")):
        with pytest.raises(ConfigError, match="t050/0 is not one that site triage is studied on"):
            study(evaluator(model)).evaluate(BASE, [*TUNE, strange])
    assert model.calls == 0


def test_lineage_names_the_trajectories_of_the_demonstrations(name):
    taught = {case.trajectory_id for case in TRAIN}
    for one in make(name).search(study()):
        shown = {demo["source"] for demo in pool_of(one.artifact)} - {"production"}
        assert shown <= set(one.lineage) <= taught
        assert one.lineage or name == "logged", "what production ran is nobody's log"


def test_no_candidate_shows_a_pseudonym_or_what_it_is_tuned_on(name):
    hidden = [
        case_of(20, values={"company": "ACME", "ticket": "parcel for [EMAIL_0123abcd]"}),
        case_of(21, correction="[USER_0123abcd]"),
        case_of(22, task_group=TUNE[0].task_group),
    ]
    for one in make(name).search(study(train=[*hidden, *TRAIN])):
        text = one.artifact.to_json()
        assert "0123abcd" not in text
        assert "number 22" not in text


def test_without_any_right_output_only_instructions_can_change(name):
    unknown = [case_of(n, reward=None) for n in range(8)]
    for one in make(name).search(study(train=unknown)):
        assert pool_of(one.artifact) == pool_of(BASE)


def test_a_used_up_budget_ends_the_search_and_keeps_what_was_found(name):
    full = list(make(name).search(study()))
    agent, cache, found = Agent(), Rows(), []
    stream = make(name).search(study(evaluator(agent, Budget(calls=10), cache)))
    with pytest.raises(BudgetError):
        found.extend(stream)
    assert agent.calls == len(cache) == 10
    assert [one.candidate_id for one in found] == [one.candidate_id for one in full[: len(found)]]


def test_a_search_that_nobody_listens_to_any_more_makes_no_further_calls(name):
    agent = Agent()
    stream = make(name).search(study(evaluator(agent)))
    next(stream)
    before = agent.calls
    stream.close()
    assert agent.calls == before


@pytest.mark.parametrize("name", sorted(NEED_REFLECTION))
class TestGuided:
    def test_without_a_model_that_writes_it_says_so(self, name):
        with pytest.raises(ConfigError, match="capable model"):
            OPTIMIZERS[name]()

    def test_it_finds_the_rule_that_the_writer_knows(self, name):
        found = list(make(name).search(study()))
        assert any(RULE in instructions(one.artifact) and one.tune_score == 1.0 for one in found)

    @pytest.mark.parametrize(
        "bad",
        [
            "No slot here. " + RULE,
            "For {{company}}: see https://evil.example " + RULE,
            "{{company}}: the grader " + RULE,
        ],
    )
    def test_proposals_that_lose_a_slot_or_break_a_rule_are_refused(self, name, bad):
        writer = Writer(new_instruction=bad, proposed_instruction=bad, new_lines=[bad])
        found = list(make(name, writer).search(study()))
        assert writer.asked
        harmless = name == "playbook" and bad.startswith("No slot")  # it only adds lines
        assert harmless or not any(RULE in one.artifact.to_json() for one in found)
        assert all("{{company}}" in instructions(one.artifact) for one in found)

    def test_the_writer_draws_on_the_same_account(self, name):
        ledger = Ledger(Budget(calls=400))
        writer = Writer()
        chat = CachedModel(writer, Rows(), ledger, now_ns=1)
        agent = Agent()
        list(make(name, chat).search(study(evaluator(agent, ledger=ledger))))
        assert ledger.spent.calls == agent.calls + len(writer.asked)
        assert writer.asked

    def test_a_dead_writer_ends_the_search_with_its_error(self, name):
        class Dead:
            def complete(self, requests):
                raise EndpointError("http://writer.example", "refused")

        with pytest.raises(EndpointError, match=r"writer\.example"):
            list(make(name, Dead()).search(study()))

    def test_nothing_is_printed_by_the_search_itself(self, name, capsys):
        class Talking(Agent):
            def complete(self, requests):
                print("called")  # other output is not swallowed
                return super().complete(requests)

        list(make(name).search(study(evaluator(Talking()))))
        said = capsys.readouterr()
        assert set(said.out.split()) == {"called"}
        assert said.err == ""

    def test_the_logged_text_reaches_the_writer_and_the_raw_system_text_stays(self, name):
        writer = Writer()
        found = list(make(name, writer).search(study()))
        assert "about my" in str(writer.asked)
        kept = [one for one in found if RULE not in instructions(one.artifact)]
        assert all(instructions(one.artifact) == instructions(BASE) for one in kept)


@pytest.mark.parametrize("name", sorted(NEED_REFLECTION))
def test_ctrl_c_in_an_evaluation_ends_a_guided_search(name):
    class Interrupted(Agent):
        def complete(self, requests):
            if self.calls > 20:
                raise KeyboardInterrupt
            return super().complete(requests)

    with pytest.raises(KeyboardInterrupt):
        list(make(name).search(study(evaluator(Interrupted()))))


def test_optimizers_are_built_from_configuration():
    assert build("nearest", ks=[2], seed=5) == OPTIMIZERS["nearest"](ks=(2,), seed=5)
    with pytest.raises(ConfigError, match="known: apo, gepa, labeled_few_shot"):
        build("gradient")
    with pytest.raises(ConfigError, match=r"labeled_few_shot has no knob shots; known: draws, ks"):
        build("labeled_few_shot", shots=3)
    with pytest.raises(ConfigError, match="ks"):
        build("random_search", ks=[0])


def test_random_search_races_its_sets_on_few_cases():
    agent = Agent()
    tune = [case_of(n) for n in range(100, 140)]
    found = list(OPTIMIZERS["random_search"]().search(study(evaluator(agent), tune=tune)))
    assert len(found) == 2
    assert all(one.tune_n == 40 for one in found)
    assert agent.calls <= 12 * 10 + 4 * 10 + 2 * 20


class Failing:
    name = "failing"

    def __init__(self, error):
        self.error = error

    def search(self, given):
        yield next(iter(make("nearest").search(given)))
        raise self.error


def test_a_portfolio_reports_production_first_and_survives_a_failing_optimizer():
    heard, errors = [], []
    found = run(
        study(),
        [Failing(ValueError("broken")), make("nearest"), make("labeled_few_shot")],
        on_candidate=heard.append,
        on_error=lambda name, error: errors.append((name, str(error))),
    ).candidates
    assert heard == found
    assert (found[0].branch, found[0].artifact, found[0].tune_score, found[0].tune_n) == ("production", BASE, 0.0, 12)
    assert errors == [("failing", "broken")]
    assert {one.parent_id for one in found[1:]} == {found[0].candidate_id}
    assert len({one.candidate_id for one in found}) == len(found) == 1 + 2 + 4


def test_random_search_keeps_the_sets_that_answer_better():
    found = list(build("random_search", ks=[1, 4], keep=2).search(study()))
    assert [one.tune_score for one in found] == [1.0, 1.0]


def test_a_broken_store_stops_a_portfolio():
    heard = []
    with pytest.raises(StoreError, match="disk full"):
        run(study(), [Failing(StoreError("disk full"))], on_candidate=heard.append)
    assert len(heard) == 2


def test_a_portfolio_ends_with_its_budget_and_goes_on_from_the_cache():
    cache, errors, agent = Rows(), [], Agent()
    optimizers = [make("nearest"), make("labeled_few_shot")]
    found = run(
        study(evaluator(agent, Budget(calls=40), cache)),
        optimizers,
        on_candidate=lambda one: None,
        on_error=lambda name, error: errors.append((name, type(error))),
    ).candidates
    assert errors == [("labeled_few_shot", BudgetError)]
    assert [one.optimizer for one in found] == ["production", "nearest", "nearest"]
    second = Agent()
    all_found = run(study(evaluator(second, None, cache)), optimizers, on_candidate=lambda one: None).candidates
    assert all_found[:3] == found
    assert second.calls == 12 * 7 - 40
