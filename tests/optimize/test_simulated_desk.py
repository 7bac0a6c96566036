"""The simulated desk on which bench/optimize.py compares optimizers: fixed by its seed, honest about what is seen."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracemill.records import ChatRequest

SEEDS = range(150)


@pytest.fixture(scope="module")
def desk() -> Iterator[SimpleNamespace]:
    """The benchmark and what it simulates, which are no part of any package."""
    bench = Path(__file__).resolve().parents[2] / "bench"
    sys.path.insert(0, str(bench))
    try:
        spec = importlib.util.spec_from_file_location("bench_optimize", bench / "optimize.py")
        assert spec is not None
        assert spec.loader is not None
        script = sys.modules["bench_optimize"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        simulated, writer = sys.modules["harness.simulated"], sys.modules["harness.simulated_writer"]
        yield SimpleNamespace(search=script.search, Writer=writer.SimulatedWriter, **vars(simulated))
    finally:
        sys.path.remove(str(bench))
        for name in [one for one in sys.modules if one.partition(".")[0] in ("bench_optimize", "harness")]:
            del sys.modules[name]


def asked(world, system, ticket):
    return world.chance([{"role": "system", "content": system}, {"role": "user", "content": f"Ticket: {ticket}"}])


def request(text, number=0):
    return ChatRequest(
        model="large",
        messages=({"role": "user", "content": text + '\n\nAnswer with one JSON object: {"new_instruction": "…"}'},),
        seed=number,
    )


def test_a_seed_fixes_the_world_its_logs_and_every_answer(desk):
    one, two = desk.World(3), desk.World(3)
    assert desk.logs(one) == desk.logs(two)
    assert desk.logs(one) != desk.logs(desk.World(4))
    given = desk.logs(one)
    runs = [desk.search("labeled_few_shot", world, given, 200, lambda artifact: 0.5) for world in (one, two)]
    assert replace(runs[0], seconds=0.0) == replace(runs[1], seconds=0.0)
    assert runs[0].calls == 200


def test_a_rule_lifts_its_kind_only_and_a_contradiction_costs(desk):
    world = desk.World(0)
    needy, other = world.kinds[8], world.kinds[9]
    tickets = [str(case.values["ticket"]) for case in desk.logs(world).held_out]
    mine = next(one for one in tickets if world.place(one)[0] is needy)
    theirs = next(one for one in tickets if world.place(one)[0] is other)
    rule = f"x\n- {needy.topic[1]}: mind the {needy.policy[2]}."
    wrong = f"{rule}\n- {needy.topic[0]}: mind the {other.policy[0]}."
    assert asked(world, rule, mine) > 0.85 > 2 * asked(world, "x", mine)
    assert asked(world, wrong, mine) == pytest.approx(0.6 * asked(world, rule, mine))
    assert asked(world, rule, theirs) == asked(world, "x", theirs)
    assert asked(world, rule + "\n- Be nice.", mine) < asked(world, rule, mine)


def test_the_writer_draws_no_rule_from_nothing_and_none_about_what_it_is_not_shown(desk):
    world = desk.World(1)
    needy = world.kinds[8]
    side = needy.sides[0]
    shown = f"#0001: it is about my {needy.topic[0]} {side.words}, thanks. Answered K-CLOSE and {side.code} was right."
    for number in SEEDS:
        requests = [request(desk.OPENING, number), request(f"{desk.OPENING}\n\n{shown}", number)]
        blind, told = (one.text for one in desk.Writer(world).complete(requests))
        assert not any(word in blind for words in world.topics for word in words)
        lines = told.split("\\n- ")[1:]
        assert {desk.wording(line, world.topics) for line in lines} <= {None, 8}


def test_the_writer_finds_more_rules_the_more_its_feedback_says(desk):
    world = desk.World(1)
    needy = world.kinds[8]
    side = needy.sides[0]
    ticket = f"#0001: it is about my {needy.topic[0]} {side.words}, thanks."
    feedback = ("", f" Right: {side.code}.", f" Said K-CLOSE. Right: {side.code}.", f" Look at the {needy.policy[1]}.")

    def found(text):
        said = desk.Writer(world).complete([request(f"{desk.OPENING}\n\n{ticket}{text}", n) for n in SEEDS])
        return sum(any(word in one.text for word in needy.policy) for one in said)

    shares = [found(text) for text in feedback]
    assert shares == sorted(shares)
    assert shares[0] < 0.1 * len(SEEDS) < 0.7 * len(SEEDS) < shares[3]
