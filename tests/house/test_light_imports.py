"""What must stay cheap: `tracemill --help` brings no learning library, the prompt client nothing at all."""

import subprocess
import sys

import pytest

HEAVY = {
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm", "gguf"),
    *("dspy", "gepa", "litellm", "optuna", "openai", "prefect", "fastapi", "ray"),
    *("matplotlib", "scipy", "pandas", "polars"),
}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint('\\n' + ' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


HELP = """
import tracemill.app.cli
sys.argv = ["tracemill", "--help"]
try:
    tracemill.app.cli.main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("statement", ["import tracemill.app.cli", HELP], ids=["import", "help"])
def test_the_command_line_loads_nothing_heavy(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_live_prompt_needs_the_standard_library_only() -> None:
    before = loaded_by("pass")
    assert loaded_by("from tracemill import live_prompt") - before - sys.stdlib_module_names == {"tracemill"}
