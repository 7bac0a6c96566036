"""For every test: nothing leaves the machine or its folder, small work keeps to one thread, and a model made here.

The tiny random model has a tokenizer trained here: everything about training and serving but the quality.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import few_threads  # noqa: F401 - its import does it
import pytest

# Before anything imports prefect, torch or a hub client: they read these once.
os.environ.update(
    {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    }
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each test process has an orchestrator of its own: neither the user's nor that of the process beside it.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="tracemill-tests-")
atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = [
    "You route tickets to one of the queues billing, shipping, returns or account. Answer with the queue only.",
    "My parcel has not arrived although the shop said it left on Monday.",
    "I was charged twice for the same order and want my money back.",
    "The shoes are too small; how do I send them back?",
    "I cannot log in since I changed my password, please help.",
    "user assistant system billing shipping returns account",
]


def make_model(folder: Path, *, seed: int = 0, layers: int = 4, logit_scale: float = 8.0) -> Path:
    """Writes a random Llama of a few hundred thousand weights, sharp enough that greedy choices are no ties."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=384,
            special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=CHAT_TEMPLATE
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(logit_scale / 10)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with real logs; tests marked `data` read it and are skipped without it."""
    folder = os.environ.get("TRACEMILL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TRACEMILL_DATA does not name the folder with the real logs")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model."""
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")
