"""Training rows are what production sends, from the learn pool only, with every dropped case counted."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill import client, schema
from tracemill.errors import ConfigError
from tracemill.records import Artifact, Case
from tracemill.train import datums

PROMPT: Mapping[str, Any] = {
    "format": "tracemill.prompt/1",
    "site_id": "s",
    "model": "tiny",
    "adapter": None,
    "messages": [
        {"role": "system", "content": ["You route tickets."]},
        {"demonstrations": True},
        {"role": "user", "content": [{"slot": "ticket"}]},
    ],
    "demonstrations": {
        "select": "fixed",
        "k": 1,
        "pool": [
            {
                "messages": [
                    {"role": "user", "content": "log in"},
                    {"role": "assistant", "content": "account"},
                ],
                "text": "log in",
                "source": "t",
            }
        ],
    },
    "params": {"temperature": 1.0},
    "tools": None,
}
ARTIFACT = Artifact(prompt=PROMPT)


def _case(number: int, ticket: str = "My parcel has not arrived.", **changes: Any) -> Case:
    messages = client.render(PROMPT, {"ticket": ticket})
    case = Case(
        case_id=f"t{number}/0",
        trajectory_id=f"t{number}",
        step=0,
        site_id="s",
        task_key=None,
        task_group=f"g{number % 3}",
        pool="learn",
        values={"ticket": ticket},
        logged_messages=tuple(messages),
        logged_output="shipping",
        reward=1.0,
    )
    return replace(case, **changes)


def _transitions(tokenizer: Any, cases: list[Case], **changes: Any) -> pa.Table:
    rows = []
    for case in cases:
        ids = tokenizer(case.logged_output)["input_ids"] + [tokenizer.eos_token_id]
        rows.append(
            {
                "trajectory_id": case.trajectory_id,
                "step": case.step,
                "output_token_ids": ids,
                "output_logprobs": [-0.5] * len(ids),
                "params": '{"temperature": 0.7}',
            }
            | changes
        )
    return pa.Table.from_pylist(rows, schema=schema.TRANSITIONS)


def _tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def test_a_row_is_the_prompt_that_production_renders_and_the_right_output(tiny: Path) -> None:
    tokenizer = _tokenizer(tiny)
    made = datums.build([_case(1)], ARTIFACT, kind="sft", model_folder=tiny)
    row = made.table.to_pylist()[0]
    text = tokenizer.decode(row["prompt_ids"])
    assert text == (
        "<|im_start|>system\nYou route tickets.<|im_end|>\n<|im_start|>user\nlog in<|im_end|>\n"
        "<|im_start|>assistant\naccount<|im_end|>\n<|im_start|>user\nMy parcel has not arrived.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert tokenizer.decode(row["completion_ids"]) == "shipping<|im_end|>"
    assert made.dropped == {}


def test_a_correction_outweighs_what_was_logged(tiny: Path) -> None:
    wrong = _case(1, logged_output="returns", reward=0.0, correction="shipping")
    made = datums.build([wrong], ARTIFACT, kind="sft", model_folder=tiny)
    assert made.table["completion"].to_pylist() == ["shipping"]
    assert made.table["reward"].to_pylist() == [None]


def test_a_case_of_the_gate_pool_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="reserved for the gate and must not be trained on, such as t7/0"):
        datums.build([_case(1), _case(7, pool="gate")], ARTIFACT, kind="sft", model_folder=tiny)


def test_what_cannot_be_learned_from_is_counted_by_reason(tiny: Path) -> None:
    cases = [
        _case(1),
        _case(2),  # the same prompt and output again
        _case(3, reward=0.0),
        _case(4, reward=None),
        _case(5, "other", logged_output="write to [EMAIL_0011aabb]"),
        _case(6, "long " * 300),
        _case(7, values={}),
        _case(8, "one more", reward=1.0, reward_low=0.5),  # nobody is sure that it was right
    ]
    made = datums.build(cases, ARTIFACT, kind="sft", model_folder=tiny, max_tokens=256)
    assert made.table["case_id"].to_pylist() == ["t1/0"]
    assert made.dropped == {"duplicate": 1, "no_target": 3, "pseudonym": 1, "too_long": 1, "unbound": 1}


def test_a_tool_call_is_no_text_to_learn_and_no_prompt_loses_one(tiny: Path) -> None:
    called = {"id": "1", "type": "function", "function": {"name": "lookup_parcel", "arguments": "{}"}}
    artifact = Artifact(prompt={**PROMPT, "messages": [{"conversation": True}], "demonstrations": None})
    turns = [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "on its way"},
    ]
    cases = [
        _case(1, values={"conversation": turns[:1]}, logged_output="[…]", calls_tools=True),
        _case(2, values={"conversation": turns[:1]}, calls_tools=True, correction="It is on its way."),
        # The tiny model's template, as those of most small models, writes the turn without its call.
        _case(3, values={"conversation": turns}),
    ]
    made = datums.build(cases, artifact, kind="sft", model_folder=tiny)
    assert made.table["case_id"].to_pylist() == ["t2/0"]
    assert made.dropped == {"template": 1, "tool_calls": 1}


def test_grpo_rows_carry_how_they_were_drawn(tiny: Path) -> None:
    cases = [_case(1), _case(2, logged_output="returns", reward=0.0), _case(3, reward=0.9, reward_low=0.6)]
    tokenizer = _tokenizer(tiny)
    made = datums.build(cases, ARTIFACT, kind="grpo", model_folder=tiny, transitions=_transitions(tokenizer, cases))
    rows = made.table.to_pylist()
    assert [row["reward"] for row in rows] == [1.0, 0.0, 0.6], "what is in doubt earns its lower bound"
    assert [row["temperature"] for row in rows] == [0.7, 0.7, 0.7]
    assert all(len(row["logprobs"]) == len(row["completion_ids"]) for row in rows)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"output_logprobs": None}, "no_logprobs"),
        ({"output_logprobs": [-0.5]}, "no_logprobs"),
        ({"params": '{"temperature": 0}'}, "greedy"),
        ({"params": '{"top_p": 0.9}'}, "nucleus"),
        ({"input_token_ids": [1, 2, 3]}, "other_prompt"),
    ],
)
def test_grpo_refuses_draws_that_importance_weights_cannot_correct(
    tiny: Path, changes: dict[str, Any], reason: str
) -> None:
    cases = [_case(1)]
    transitions = _transitions(_tokenizer(tiny), cases, **changes)
    made = datums.build(cases, ARTIFACT, kind="grpo", model_folder=tiny, transitions=transitions)
    assert (made.table.num_rows, made.dropped) == (0, {reason: 1})


def test_a_draw_under_an_older_prompt_is_no_draw_of_this_one(tiny: Path) -> None:
    older = _case(1, logged_messages=({"role": "user", "content": "My parcel has not arrived."},))
    transitions = _transitions(_tokenizer(tiny), [older])
    made = datums.build([older], ARTIFACT, kind="grpo", model_folder=tiny, transitions=transitions)
    assert made.dropped == {"other_prompt": 1}


def test_rows_and_counts_survive_the_file(tiny: Path, tmp_path: Path) -> None:
    made = datums.build([_case(1), _case(3, reward=0.0)], ARTIFACT, kind="sft", model_folder=tiny)
    found = datums.read(made.write(tmp_path / "rows.parquet"))
    assert found.table.equals(made.table)
    assert (found.kind, found.dropped) == ("sft", {"no_target": 1})


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(ConfigError, match=r"rows\.parquet"):
        datums.read(tmp_path / "rows.parquet")
