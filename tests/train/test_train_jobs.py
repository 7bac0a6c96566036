"""Training runs in their own process: they learn, survive kill -9, and say plainly what is wrong."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill import protocols
from tracemill.errors import ConfigError, TrainError
from tracemill.train import TrainJob, datums, launch, registry
from tracemill.train.grpo import GrpoTrainer
from tracemill.train.sft import schedule

TICKETS = {
    "billing": ["I was charged twice", "charged twice for the same order", "I want my money back"],
    "shipping": ["My parcel has not arrived", "the shop said it left on Monday", "parcel left on Monday"],
    "returns": ["The shoes are too small", "how do I send them back?", "too small; send them back"],
}


def _rows(tiny: Path, *, kind: datums.Kind = "sft") -> datums.Datums:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    rows = []
    for queue, tickets in TICKETS.items():
        for number, ticket in enumerate(tickets):
            messages = [{"role": "user", "content": ticket}]
            rows.append(
                {
                    "case_id": f"{queue}{number}/0",
                    "trajectory_id": f"{queue}{number}",
                    "group": queue,
                    "prompt": json.dumps(messages),
                    "completion": queue,
                    "weight": 1.0,
                    "prompt_ids": tokenizer.apply_chat_template(
                        messages, add_generation_prompt=True, return_dict=False
                    ),
                    "completion_ids": [*tokenizer(queue)["input_ids"], tokenizer.eos_token_id],
                }
            )
    return datums.Datums(kind=kind, table=pa.Table.from_pylist(rows, schema=datums.SCHEMA), dropped={"no_target": 4})


@pytest.fixture(scope="module")
def job(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    folder = tmp_path_factory.mktemp("jobs")
    return TrainJob(
        trainer="sft",
        base_model=str(tiny),
        cache=folder,
        datums=_rows(tiny).write(folder / "rows.parquet"),
        out=folder / "unbroken",
        options={"steps": 24, "batch_size": 9, "learning_rate": 2e-2, "rank": 8, "top_layers": 4, "save_every": 4},
        snapshot_id=17,
    )


@pytest.fixture(scope="module")
def trained(job: TrainJob) -> tuple[Any, list[Mapping[str, Any]]]:
    told: list[Mapping[str, Any]] = []
    return launch(job, on_progress=told.append), told


def test_sft_lowers_the_loss_and_reports_each_step(trained: Any) -> None:
    result, told = trained
    assert result.metrics["loss_last"] < result.metrics["loss_first"] - 1
    assert [entry["step"] for entry in told if "loss" in entry] == list(range(1, 25))
    assert all(entry["steps"] == 24 for entry in told)


def test_the_adapter_is_safetensors_named_by_its_content_with_a_card(trained: Any, tiny: Path) -> None:
    result, _ = trained
    assert result.adapter.name == f"adapter-{result.content_hash[:16]}"
    assert sorted(path.name for path in result.adapter.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    card = (result.adapter / "README.md").read_text()
    assert "lake snapshot: 17" in card
    assert "training rows: 9; cases dropped: 4 no_target" in card
    assert "- billing0" in card
    assert str(tiny) not in (result.adapter / "adapter_config.json").read_text() + card


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft 0.21
def test_the_trained_adapter_can_be_served(trained: Any, tiny: Path) -> None:
    from tracemill.train.serving.decode import Sampling
    from tracemill.train.serving.engine import Engine

    engine = Engine(tiny, name="tiny", threads=1)
    try:
        engine.load_adapter("tuned", trained[0].adapter).result(timeout=60)
        tokens = engine.tokens([{"role": "user", "content": "My parcel has not arrived"}])
        sampling = Sampling(temperature=0, max_tokens=8)
        assert engine.submit("tuned", tokens, sampling).result(timeout=60).text == "shipping"
        assert engine.submit("tiny", tokens, sampling).result(timeout=60).text != "shipping"
    finally:
        engine.close()


def test_a_finished_job_returns_at_once_with_the_same_result(trained: Any, job: TrainJob) -> None:
    told: list[Mapping[str, Any]] = []
    assert launch(job, on_progress=told.append) == trained[0]
    assert told == []


def test_a_run_killed_in_the_middle_ends_with_the_same_weights(trained: Any, job: TrainJob) -> None:
    broken = replace(job, out=job.out.with_name("broken"))

    def kill(facts: Mapping[str, Any]) -> None:
        if facts["step"] == 7:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            for child in children:
                command = Path(f"/proc/{child}/cmdline").read_text()
                if "tracemill.train.worker" in command:
                    os.kill(int(child), signal.SIGKILL)

    with pytest.raises(TrainError, match="ended with -9"):
        launch(broken, on_progress=kill)
    assert (broken.out / "checkpoints" / "checkpoint-4").is_dir()
    (broken.out / "checkpoints" / "checkpoint-6").mkdir()  # a checkpoint torn by a kill while it was written
    told: list[Mapping[str, Any]] = []
    result = launch(broken, on_progress=told.append)
    assert min(entry["step"] for entry in told) == 5
    assert result.content_hash == trained[0].content_hash


def test_a_folder_of_another_job_is_refused(trained: Any, job: TrainJob) -> None:
    with pytest.raises(ConfigError, match="belongs to another training job"):
        launch(replace(job, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainer": "ppo"}, "unknown trainer 'ppo'; known: grpo, preference, sft"),
        ({"options": {"stepps": 3}}, "trainer 'sft' has no option 'stepps'; it has: "),
        ({"base_model": "nosuch"}, "unknown model 'nosuch'"),
    ],
)
def test_a_wrong_job_is_one_clear_sentence(
    job: TrainJob, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        launch(replace(job, out=tmp_path / "out", **changes))


@pytest.mark.slow
def test_a_failure_comes_with_the_end_of_the_log(job: TrainJob, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(TrainError, match=r"(?s)training 'sft' in .* failed: OSError: .*no file named model.*in attach"):
        launch(replace(job, base_model=str(torn), out=tmp_path / "out"))


def test_rows_of_another_kind_are_refused(job: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds sft rows; this trainer learns from grpo rows"):
        GrpoTrainer().train(job.datums, job.base_model, tmp_path, report=lambda facts: None)


@pytest.mark.parametrize("name", sorted(registry.TRAINERS))
def test_every_trainer_says_that_no_rows_are_nothing_to_learn(tiny: Path, tmp_path: Path, name: str) -> None:
    kinds: dict[str, datums.Kind] = {"sft": "sft", "grpo": "grpo", "preference": "preference"}
    kind = kinds[name]
    empty = datums.Datums(kind=kind, table=datums.SCHEMA.empty_table(), dropped={}).write(tmp_path / "rows.parquet")
    trainer: protocols.Trainer = registry.build(name, {}, seed=0, init_adapter=None)
    assert trainer.name == name
    metrics = trainer.train(empty, str(tiny), tmp_path / "out", report=lambda facts: None)
    assert metrics["nothing_to_learn"]
    assert not (tmp_path / "out" / "adapter").exists()


def test_no_rows_is_nothing_to_learn_and_no_adapter(job: TrainJob, tmp_path: Path) -> None:
    empty = datums.Datums(kind="sft", table=datums.SCHEMA.empty_table(), dropped={}).write(tmp_path / "rows.parquet")
    result = launch(replace(job, datums=empty, out=tmp_path / "out"))
    assert result.adapter is None
    assert result.nothing_to_learn == "no case has an output known to be right"


def test_rare_outputs_are_drawn_more_often_than_they_were_logged() -> None:
    outputs = ["common"] * 90 + ["rare"] * 10
    order = schedule(outputs, [1.0] * 100, n=400, seed=3)
    rare = sum(outputs[at] == "rare" for at in order) / 400
    assert 0.18 < rare < 0.32  # √10 / (√10 + √90) = 0.25
    first = [at for at in order if outputs[at] == "common"][:90]
    assert len(set(first)) == 90  # every row before any comes again
    assert order == schedule(outputs, [1.0] * 100, n=400, seed=3)
    assert order != schedule(outputs, [1.0] * 100, n=400, seed=4)
