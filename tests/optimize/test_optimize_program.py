"""The DSPy program of a site sends production's bytes, through DSPy's whole stack, and turns back into its artifact."""

import subprocess
import sys
from dataclasses import replace

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill import client
from tracemill.errors import BudgetError
from tracemill.optimize.artifact import baseline, instructions
from tracemill.optimize.components import with_component
from tracemill.optimize.engine import language_model
from tracemill.optimize.program import SiteProgram, artifact_to_program, program_to_artifact
from tracemill.optimize.search import PromptModel
from tracemill.records import Completion, Site, Template

TEXT = st.text(alphabet=st.sampled_from(" \t\n{}abé✓\"'\\"), max_size=12)


class ScriptedModel:
    """Answers the prompts it knows, by their messages; any other prompt fails the test."""

    def __init__(self, script):
        self.script = script
        self.asked = []

    def complete(self, requests):
        self.asked += requests
        return [Completion(text=self.script[str(r.messages)], tokens_in=3, tokens_out=1) for r in requests]


def site_of(*messages):
    return Site(site_id="s1", site_version="v1", agent_name=None, model="m", template=Template(messages=messages))


def prompt(system, demo, question):
    return (
        {"role": "system", "content": [system, {"slot": "company"}, system]},
        {"role": "user", "content": [demo]},
        {"role": "assistant", "content": [demo]},
        {"role": "user", "content": [question, {"slot": "copy"}, question]},
    )


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT, TEXT)
def test_the_program_renders_what_production_sent_and_turns_back(system, demo, question, value):
    template = prompt(system, demo, question)
    artifact = baseline(site_of(*template))
    program = SiteProgram(artifact)
    values = {"company": value, "copy": value}
    assert program.messages(values) == client.render({"messages": template}, values)
    assert program_to_artifact(program) == artifact
    assert program_to_artifact(program.deepcopy()) == artifact
    assert program_to_artifact(artifact_to_program(program_to_artifact(program))) == artifact


def test_a_call_reaches_the_model_with_productions_bytes_and_the_answer_comes_back_raw():
    artifact = baseline(site_of(*prompt("  Route\t{x}\n\n", " demo ", "\tQ: ")))
    values = {"company": "ACME ", "copy": " {late}"}
    sent = client.render(artifact.prompt, values)
    model = ScriptedModel({str(tuple(sent)): "  billing\n"})
    program = SiteProgram(artifact, language_model(PromptModel(chat=model, name="m", params={"temperature": 0.0})))
    answer = program(**program.fields.inputs(values))
    assert answer[program.fields.output] == "  billing\n"
    assert model.asked[0].messages == tuple(sent)
    assert dict(model.asked[0].params) == {"temperature": 0.0}
    assert not isinstance(dspy.settings.adapter, type(program.adapter))


def test_an_empty_answer_is_an_answer():
    artifact = baseline(site_of({"role": "user", "content": [{"slot": "x"}]}))
    model = ScriptedModel({str(({"role": "user", "content": "?"},)): ""})
    program = SiteProgram(artifact, language_model(PromptModel(chat=model, name="m")))
    assert program(x="?").output == ""


def test_new_instructions_and_demonstrations_become_an_artifact():
    artifact = baseline(site_of(*prompt("Route. ", "old", "Q: ")))
    program = SiteProgram(artifact)
    program.predict.signature = program.predict.signature.with_instructions("Route well at {{company}}.")
    field, output = program.fields.field_of["copy"], program.fields.output
    program.predict.demos = [dspy.Example(**{field: "late", "company": "ACME", output: "delivery"}, augmented=True)]
    changed = program_to_artifact(program)
    assert instructions(changed) == "Route well at {{company}}."
    assert [m["content"] for m in client.render(changed.prompt, {"company": "ACME", "copy": "?"})] == [
        "Route well at ACME.",
        "Q: lateQ: ",
        "delivery",
        "Q: ?Q: ",
    ]


@pytest.mark.parametrize("told", ["", "  Looks\n\tup {x}.\n", "Looks up."])
def test_open_descriptions_of_tools_turn_back_to_the_byte_and_become_new_ones(told):
    tools = [{"type": "function", "function": {"name": name, "description": told}} for name in ("look", "file")]
    artifact = baseline(site_of(*prompt("Route. ", "old", "Q: ")))
    artifact = replace(artifact, prompt={**artifact.prompt, "tools": tools})
    program = SiteProgram(artifact, tools_open=True).deepcopy()
    assert [name for name, _ in SiteProgram(artifact).named_predictors()] == ["predict"]
    assert program_to_artifact(program) == artifact
    look = program.tools["tool:look"]
    look.signature = look.signature.with_instructions("For parcels.")
    assert program_to_artifact(program) == with_component(artifact, "tool:look", "For parcels.")


def test_slots_that_dspy_cannot_name_get_another_name():
    artifact = baseline(
        site_of(
            {"role": "user", "content": [{"slot": "class"}, {"slot": "output"}, {"slot": "a b"}, {"slot": "demos"}]}
        )
    )
    program = SiteProgram(artifact)
    values = {"class": "1", "output": "2", "a b": "3", "demos": "4"}
    assert program.messages(values) == [{"role": "user", "content": "1234"}]
    assert program.fields.values(program.fields.inputs(values)) == values
    assert program.fields.output == "answer"


def test_a_used_up_budget_is_not_taken_for_a_bad_answer():
    class Broke:
        def complete(self, requests):
            raise BudgetError("nothing left")

    program = SiteProgram(
        baseline(site_of({"role": "user", "content": [{"slot": "x"}]})),
        language_model(PromptModel(chat=Broke(), name="m")),
    )
    with pytest.raises(BudgetError):
        program(x="?")


def test_the_room_and_its_registry_are_imported_without_dspy():
    code = (
        "import sys, tracemill.optimize, tracemill.optimize.optimizers, tracemill.optimize.portfolio,"
        " tracemill.optimize.replay; print([m for m in ('dspy', 'gepa', 'litellm', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
