"""The GPU benchmark runs to its end without a GPU, on a toy, and prints what RESULTS and README name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu" / "run.py"
KEYS = {"seconds_per_step", "trained_tokens_per_s", "read_tokens_per_s", "mfu", "peak_memory_gb"}


@pytest.mark.slow
def test_every_method_and_tuning_gives_its_numbers() -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--steps", "1"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    report = json.loads(ran.stdout.splitlines()[-1])
    assert {(row["method"], row["tuning"]) for row in report["results"] if row["model"] == "qwen-0.5b"} == {
        (method, tuning) for method in ("sft", "dpo", "grpo") for tuning in ("lora", "full")
    }
    assert all(row.keys() >= KEYS and row["trained_tokens_per_s"] > 0 for row in report["results"])
    # DPO reads its reference whether that is the base under the adapter or a second model
    assert all(row["read_tokens_per_s"] > 0 for row in report["results"] if row["method"] in {"dpo", "grpo"})


def test_the_readme_explains_every_number_that_is_printed() -> None:
    readme = (SCRIPT.parent / "README.md").read_text(encoding="utf-8")
    assert {key for key in KEYS if f"`{key}`" not in readme} == set()
