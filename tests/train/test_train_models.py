"""Names of models become folders, or one clear sentence."""

from pathlib import Path

import pytest

from tracemill.errors import ConfigError
from tracemill.train import models


def test_a_local_folder_is_itself(tiny: Path, tmp_path: Path) -> None:
    assert models.resolve(str(tiny), tmp_path) == tiny
    assert models.facts(str(tiny)).licence == "unknown"


def test_what_is_no_model_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown model 'gpt-9': give 'smollm2' or the path of a local model folder"):
        models.resolve("gpt-9", tmp_path)
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        models.resolve(str(tmp_path), tmp_path)


@pytest.mark.slow
def test_the_embedded_model_is_converted_once_and_speaks(tmp_path: Path) -> None:
    from tracemill.train.serving.decode import Sampling
    from tracemill.train.serving.engine import Engine

    folder = models.resolve("smollm2", tmp_path)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert models.resolve("smollm2", tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    engine = Engine(folder, name="smollm2", threads=1)
    try:
        tokens = engine.tokens([{"role": "user", "content": "What is the capital of France?"}])
        answer = engine.submit("smollm2", tokens, Sampling(temperature=0, max_tokens=24)).result(timeout=120)
        assert "Paris" in answer.text
    finally:
        engine.close()
