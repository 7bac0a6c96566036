"""Logged call sites become better prompts: artifacts, cached and budgeted replay, DSPy programs, and the optimizers.

| module | offers |
|---|---|
| `artifact` | `baseline`, `with_demonstrations`, `with_instructions`, `demo_from_case`: prompt artifacts as values |
| `lint` | `lint`: what is wrong with an artifact before any model is asked |
| `endpoint` | `HttpChatModel`: any OpenAI-compatible endpoint, over `wire`, as `calls` says |
| `providers` | `ProviderModel`: any model by LiteLLM's name |
| `replay` | `Budget`, `Ledger`, `CachedModel`: no answer is paid for twice |
| `ladder` | `Ladder` and its levels: how a candidate is scored before it is deployed |
| `program` | `SiteProgram`, `RawChatAdapter`: a site as a DSPy program that sends production's bytes |
| `engine` | `language_model`: a DSPy language model over any ChatModel |
| `evidence` | `quoted`, `feedback`, `known_problems`: what logs say, as data for a model that writes |
| `optimizers` | `OPTIMIZERS`: name -> factory; `build(name, seed=…, reflection=…, **knobs)` |
| `choosing` | `winner`: the one prompt that goes to the gate |
| `provenance` | `supports`: which episodes, of how many users, stand behind each line |
| `headroom` | `measure`: whether there is anything to gain |
| `jointly` | `run`: several sites in turn, and what was found in combination |
| `portfolio` | `run`: optimizers race for a budget; `split_tune` |

`program` and `engine` import dspy; nothing else here does before a search that needs it begins.
"""

from tracemill.optimize import artifact, lint, portfolio, replay, search
from tracemill.optimize.optimizers import NEED_REFLECTION, OPTIMIZERS, build

__all__ = ["NEED_REFLECTION", "OPTIMIZERS", "artifact", "build", "lint", "portfolio", "replay", "search"]
