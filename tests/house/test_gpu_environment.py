"""requirements/gpu.txt, the environment with vLLM, resolves beside what `train` asks for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRY = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]


def pip(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DRY, *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_gpu_environment_names_vllm_and_not_prefect(root: Path) -> None:
    lines = (root / "requirements/gpu.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted[0] == "-e .[train]"
    assert any(line.startswith("vllm==") for line in wanted)
    assert not any("prefect" in line or "flows" in line for line in wanted)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_environment_resolves(root: Path) -> None:
    # A small package first: without an index there is nothing to learn from the large ones.
    if pip("--retries", "0", "--timeout", "10", "--no-deps", "pytz", cwd=root).returncode:
        pytest.skip("no package index can be reached")
    answer = pip("--no-build-isolation", "--requirement", "requirements/gpu.txt", cwd=root)
    assert answer.returncode == 0, answer.stderr
    found = {
        item["metadata"]["name"].lower(): item["metadata"]["version"] for item in json.loads(answer.stdout)["install"]
    }
    assert {"tracemill", "vllm", "torch", "trl"} <= set(found)
    assert "prefect" not in found
