"""What judges ask a language model, word for word: it changes with their version only."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from judge_server import honest, judge_server

from tracemill.ids import canonical_json, content_id
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.rewards.judge import Judge
from tracemill.rewards.ranker import Ranker

ASKED = {"judge/1": "b2f5e08f66b41f43ac57ff9108e447f8", "ranker/1": "2990e5998e0b1aa493cabd596712f8dd"}
"""What is asked about the episodes below, as a hash. Where that changes, raise the number in judge.py or ranker.py:
its version does not follow its code, so that nobody is asked anew about a whole log for a line that changed nothing."""


@pytest.mark.parametrize("version", ASKED)
def test_what_is_asked_changes_with_the_number_in_the_version_only(version: str, lake: Any) -> None:
    for at, said in enumerate(["Let me <b>look</b>.\nNow.", "It was ^done` well\u200b today."]):
        lake.trajectory(f"t{at}", said, {"role": "assistant", "content": "x" * 1300}, task_group="g")
        lake.tool(f"t{at}", "ok", "error")
    kind, _, _ = version.partition("/")
    assert f'"{version}"' in Path(inspect.getfile(Judge if kind == "judge" else Ranker)).read_text()
    with judge_server(lambda shown: honest(shown) if kind == "judge" else '{"ranking": ["A", "B"]}') as server:
        model = Judge(criteria={"done": "Was it done?"}) if kind == "judge" else Ranker()
        model.asking(HttpChatModel(server.url), "m").score(lake.con, now_ns=1)
    asked = sorted(canonical_json([one.body["messages"], one.body["seed"]]) for one in server.asked)
    assert content_id(asked) == ASKED[version]
