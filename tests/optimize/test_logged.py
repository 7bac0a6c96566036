"""Prompts that production ran before: which of them are worth a try."""

from dataclasses import replace

from triage import BASE, EARLIER, Agent, evaluator, study

from tracemill.optimize.artifact import with_instructions
from tracemill.optimize.optimizers import build


def variant(version, text, low, high, n=40):
    artifact = with_instructions(BASE, text)
    return replace(EARLIER, site_version=version, artifact=artifact, low=low, mean=(low + high) / 2, high=high, n=n)


def test_what_the_logs_show_to_be_worse_is_not_tried_and_the_most_promising_comes_first():
    agent = Agent()
    plain, poor = variant("v1", "{{company}} once", 0.5, 0.99), variant("v2", "{{company}} twice", 0.1, 0.3)
    found = list(build("logged").search(study(evaluator(agent), variants=[poor, EARLIER, plain])))
    assert [one.artifact for one in found] == [plain.artifact, EARLIER.artifact]
    assert agent.calls == 24
    assert found[1].lineage == ()


def test_at_most_so_many_are_tried_and_none_that_breaks_a_rule():
    ran = [variant(f"v{n}", f"{{{{company}}}} {n}", 0.5, 0.9 - n / 100) for n in range(5)]
    spam = variant("v9", "{{company}}: see https://evil.example", 0.6, 1.0)
    found = list(build("logged", most=2).search(study(variants=[*ran, spam, replace(EARLIER, artifact=BASE)])))
    assert [one.artifact for one in found] == [ran[0].artifact, ran[1].artifact]
