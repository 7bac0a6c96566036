"""An agent that sorts tickets, whose success depends on its prompt; a model that writes prompts; cases and a study."""

import json
from itertools import pairwise
from typing import ClassVar

from tracemill.optimize.artifact import baseline, with_instructions
from tracemill.optimize.ladder import SingleStep, one_by_one
from tracemill.optimize.optimizers import build
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import PromptModel
from tracemill.records import Case, Completion, Site, Template
from tracemill.study import Study, Variant

QUEUES = {"invoice": "billing", "pin": "cards", "parcel": "delivery", "password": "account"}
RULE = "Name the queue that fits."
SITE = Site(
    site_id="triage",
    site_version="v1",
    agent_name="desk",
    model="small",
    template=Template(
        messages=(
            {"role": "system", "content": ["  You sort tickets of ", {"slot": "company"}, ".\n"]},
            {"role": "user", "content": ["Ticket: hello"]},
            {"role": "assistant", "content": ["other"]},
            {"role": "user", "content": ["Ticket: ", {"slot": "ticket"}]},
        )
    ),
    params={"temperature": 0.0},
)
BASE = baseline(SITE)


class Agent:
    """Right with the rule in its system text, or with a demonstration of the same topic; else useless."""

    def __init__(self):
        self.calls = 0

    def complete(self, requests):
        self.calls += len(requests)
        return [Completion(text=self._answer(r.messages), tokens_in=5, tokens_out=1) for r in requests]

    def _answer(self, messages):
        assert messages[0]["role"] == "system", "unexpected prompt"
        ticket = messages[-1]["content"].removeprefix("Ticket: ")
        topic = next(word for word in QUEUES if word in ticket)
        if RULE in messages[0]["content"]:
            return QUEUES[topic]
        shown = [(a["content"], b["content"]) for a, b in pairwise(messages)]
        return next((answer for asked, answer in shown if asked.startswith("Ticket: ") and topic in asked), "?")


class Writer:
    """A prompt model that knows the rule, whatever it is asked to write; an unknown request fails the test."""

    REPLIES: ClassVar = {
        "new_instruction": "Sort tickets of {{company}}. " + RULE,
        "proposed_instruction": "Sort tickets of {{company}}. " + RULE,
        "observations": "Short tickets.",
        "summary": "Support tickets and their queues.",
        "critique": "It does not say how a queue is chosen.",
        "new_lines": [RULE],
    }

    def __init__(self, **replies):
        self.replies = {**self.REPLIES, **replies}
        self.asked = []

    def complete(self, requests):
        return [Completion(text=self._write(r), tokens_in=50, tokens_out=9) for r in requests]

    def _write(self, request):
        self.asked.append(request.messages)
        last = request.messages[-1]["content"]
        fields = [name for name in self.replies if name in last[-400:]]
        assert fields, f"unexpected prompt: {last[-400:]}"
        if request.params.get("response_format") or "JSON" in last[-400:]:
            return json.dumps({fields[0]: self.replies[fields[0]]})
        return f"[[ ## {fields[0]} ## ]]\n{self.replies[fields[0]]}\n\n[[ ## completed ## ]]"


class Rows(dict):
    """A replay cache."""

    def get(self, keys):
        return {key: self[key] for key in keys if key in self}

    def note(self, sources):
        pass

    def put(self, rows, model, now_ns, sources):
        for key, text in rows.items():
            self.setdefault(key, text)


def case_of(number, *, topic=None, pool="learn", **changes):
    topic = topic or list(QUEUES)[number % 4]
    known = {
        "case_id": f"t{number:03}/0",
        "trajectory_id": f"t{number:03}",
        "step": 0,
        "site_id": "triage",
        "task_key": None,
        "task_group": f"g{number:03}",
        "pool": pool,
        "values": {"company": "ACME", "ticket": f"about my {topic} number {number}"},
        "logged_messages": (),
        "logged_output": QUEUES[topic],
        "reward": 1.0,
    }
    return Case(**{**known, **changes})


TRAIN = [case_of(n) for n in range(16)]
TUNE = [case_of(n) for n in range(100, 112)]


def verify(case, output):
    return None if case.expected is None else float(output == case.expected)


def evaluator(model=None, budget=None, cache=None, ledger=None):
    rows = Rows() if cache is None else cache
    cached = CachedModel(model or Agent(), rows, ledger or Ledger(budget or Budget()), now_ns=1)
    return SingleStep(model=cached, grade=one_by_one(verify), valid=lambda c, o: True)


EARLIER = Variant(
    site_version="v0",
    artifact=with_instructions(BASE, f"Sort tickets of {{{{company}}}}. {RULE}"),
    n=40,
    mean=0.9,
    low=0.8,
    high=0.95,
)
"""A prompt that production ran before, and that was better."""


def study(evaluate=None, *, train=TRAIN, tune=TUNE, variants=(EARLIER,)):
    return Study(
        site=SITE,
        baseline=BASE,
        train=tuple(train),
        tune=tuple(tune),
        replay=evaluate or evaluator(),
        variants=tuple(variants),
    )


def make(name, writer=None):
    knobs = {"gepa": {"metric_calls": 60}, "mipro": {"trials": 5, "candidates": 3}}.get(name, {})
    return build(name, reflection=PromptModel(chat=writer or Writer(), name="big"), **knobs)
