"""Offline GRPO uses the logged log-probabilities, and says when there is nothing to learn.

The first tests pin what TRL 1.16 does in private; a new minor version has to pass them before the pin moves.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill.train import datums
from tracemill.train.grpo import GrpoTrainer, _order, _trainer, usable

KNOBS = GrpoTrainer(steps=4, batch_size=8, learning_rate=5e-3, rank=4, top_layers=2, save_every=4, min_groups=2)
OUTPUTS = ("billing", "shipping", "returns", "account")


@pytest.fixture(scope="module")
def rows(tiny: Path) -> list[dict[str, Any]]:
    """Three wordings with four rollouts each, one of them right, with the model's own log-probabilities."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    found = []
    for number, ticket in enumerate(["charged twice", "My parcel has not arrived", "too small"]):
        messages = [{"role": "user", "content": ticket}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        for queue in OUTPUTS:
            completion = [*tokenizer(queue)["input_ids"], tokenizer.eos_token_id]
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
            logp = torch.log_softmax(logits / 1.5, -1).gather(1, torch.tensor(completion)[:, None])[:, 0]
            found.append(
                {
                    "case_id": f"{number}{queue}/0",
                    "trajectory_id": f"{number}{queue}",
                    "group": f"g{number}",
                    "prompt": json.dumps(messages),
                    "completion": queue,
                    "weight": 1.0,
                    "reward": float(queue == OUTPUTS[number]),
                    "prompt_ids": list(prompt),
                    "completion_ids": completion,
                    "logprobs": logp.tolist(),
                    "temperature": 1.5,
                }
            )
    return found


def _write(rows: list[dict[str, Any]], path: Path) -> Path:
    table = pa.Table.from_pylist(rows, schema=datums.SCHEMA)
    return datums.Datums(kind="grpo", table=table, dropped={}).write(path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft 0.21
def test_the_importance_ratio_is_current_over_logged(rows: list[dict[str, Any]], tiny: Path, tmp_path: Path) -> None:
    import torch

    drawn, _ = usable(rows)
    trainer = _trainer(KNOBS, drawn[:8], str(tiny), tmp_path, lambda facts: None)
    batch = trainer._generate_and_score_completions(drawn[:8])
    logged = batch["old_per_token_logps"]
    model = trainer.model.eval()  # a fresh adapter is zero: the policy is the one that the rows were drawn from
    trainer.current_gradient_accumulation_steps = 1

    def loss(old: torch.Tensor) -> float:
        with torch.no_grad():
            return float(trainer._compute_loss(model, {**batch, "old_per_token_logps": old}))

    mask, advantage = batch["completion_mask"], batch["advantages"][:, None]
    tokens = mask.sum()
    assert loss(logged) == pytest.approx(float(-(advantage * mask).sum() / tokens), abs=1e-3)
    assert trainer.ratios["ratio_mean"] == pytest.approx(1, abs=1e-3)
    assert trainer.ratios["ess_share"] == pytest.approx(1, abs=1e-3)
    # the policy had drawn these half as often as it would now: the ratio is 2, clipped above where the reward is good
    clipped = torch.where(advantage > 0, 1 + KNOBS.epsilon_high, 2.0)
    expected = float(-(clipped * advantage * mask).sum() / tokens)
    assert loss(logged - torch.tensor(2.0).log()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft 0.21
def test_rollouts_with_reward_become_likelier_and_a_run_goes_on_from_an_adapter(
    rows: list[dict[str, Any]], tiny: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = _write(rows, tmp_path / "rows.parquet")

    def good_minus_bad(adapter: Path | None) -> float:
        model = AutoModelForCausalLM.from_pretrained(tiny)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter)
        total = 0.0
        for row in rows:
            ids = torch.tensor([[*row["prompt_ids"], *row["completion_ids"]]])
            with torch.no_grad():
                logits = model(ids).logits[0, len(row["prompt_ids"]) - 1 : -1]
            logp = torch.log_softmax(logits / 1.5, -1).gather(1, ids[0, len(row["prompt_ids"]) :, None]).sum()
            total += float(logp) * (3 if row["reward"] else -1)
        return total

    told: list[Mapping[str, Any]] = []
    metrics = KNOBS.train(path, str(tiny), tmp_path / "first", report=told.append)
    assert metrics["groups_used"] == 3
    assert [entry["step"] for entry in told if "loss" in entry] == [1, 2, 3, 4]
    once = good_minus_bad(tmp_path / "first" / "adapter")
    assert once > good_minus_bad(None)

    again = GrpoTrainer(init_adapter=tmp_path / "first" / "adapter", steps=2, batch_size=8, save_every=2, min_groups=2)
    told_again: list[Mapping[str, Any]] = []
    metrics = again.train(path, str(tiny), tmp_path / "second", report=told_again.append)
    assert metrics["ratio_mean"] != pytest.approx(1, abs=1e-2)  # the policy has moved since the rows were drawn
    assert good_minus_bad(tmp_path / "second" / "adapter") > once


def test_groups_without_a_difference_are_nothing_to_learn(
    rows: list[dict[str, Any]], tiny: Path, tmp_path: Path
) -> None:
    path = _write([{**row, "reward": 0.0} for row in rows], tmp_path / "rows.parquet")
    metrics = KNOBS.train(path, str(tiny), tmp_path / "out", report=lambda facts: None)
    assert metrics["nothing_to_learn"] == "0 task groups have rollouts that differ in reward, 2 are needed"
    assert metrics["groups_flat"] == 3
    assert not (tmp_path / "out" / "adapter").exists()


def test_rows_of_another_temperature_are_left_out_and_counted(rows: list[dict[str, Any]]) -> None:
    mixed = [{**row, "temperature": 0.7 if at == 0 else 1.5} for at, row in enumerate(rows)]
    kept, counts = usable(mixed)
    assert {row["temperature"] for row in kept} == {1.5}
    assert counts["rows_other_temperature"] == 1


def test_the_rows_of_a_group_stay_together(rows: list[dict[str, Any]]) -> None:
    order = _order(rows[::-1], n=24, seed=5)
    groups = [rows[::-1][at]["group"] for at in order]
    assert [len(set(groups[at : at + 4])) for at in range(0, 24, 4)] == [1] * 6
    assert sorted(order[:12]) == list(range(12))
    assert order == _order(rows[::-1], n=24, seed=5)
