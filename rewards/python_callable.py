"""The Python verifier: a function of the project's own judges an output."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.records import Case
from tracemill.rewards.code import code
from tracemill.rewards.verifying import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCallable:
    """What `callable` (`package.module:function`) says of `(output, case)`: a bool, a number in [0, 1], or None.

    One that is not sure says two numbers, the value and a lower bound of it: `(0.8, 0.5)`.
    The module is imported from the project's folder, or from what is installed. It is the operator's own code and runs
    unfenced. Where it raises, or says anything else, this abstains and `explain` tells why. The version follows the
    text of the module, not of what that imports.
    """

    root: Path
    callable: str
    name: str = "python"
    _function: Callable[[str, Case], Any] = field(init=False, repr=False, compare=False)
    _digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        module, found = named(self.callable, self.root, f"reward {self.name!r}: callable = {self.callable!r}")
        object.__setattr__(self, "_function", found)
        object.__setattr__(self, "_digest", _digest(module))

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self.callable, self._digest)

    def verify(self, case: Case, output: str) -> float | None:
        return self.explain(case, output).value

    def explain(self, case: Case, output: str) -> Judgement:
        """The verdict, or the error: what the function raised, or what it said that is no verdict."""
        try:
            said = self._function(output, case)
        except Exception as error:  # noqa: BLE001 - a fault of the judge says nothing about the judged
            return _none(f"{type(error).__name__}: {error}"[:500])
        if said is None:
            return _none(None)
        try:
            value, low = (float(one) for one in (said if isinstance(said, tuple | list) else (said, said)))
        except (TypeError, ValueError):
            return _none(f"said {said!r}"[:500] + ", which is no number")
        if not 0 <= low <= value <= 1:
            return _none(
                f"said {value}, which is not in [0, 1]" if low == value else f"said {said!r}: no value and bound"
            )
        return Judgement(value=value, low=low)


def _none(error: str | None) -> Judgement:
    return Judgement(value=None, low=None, error=error)


def named(text: str, root: Path, where: str) -> tuple[ModuleType, Callable[..., Any]]:
    """What `package.module:function` names, in the project's folder or installed. ConfigError, which begins with
    `where`."""
    module_name, _, path = text.partition(":")
    if not path or not all(part.isidentifier() for part in (*module_name.split("."), *path.split("."))):
        raise ConfigError(f"{where} is not of the form package.module:function")
    module = _imported(module_name, root, where)
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f"{where}: module {module_name} ({module.__file__}) has no function {path}")
    return module, found


def _imported(name: str, root: Path, where: str) -> ModuleType:
    top = name.partition(".")[0]
    ours = PathFinder.find_spec(top, [str(root)])
    if ours is not None and top in sys.stdlib_module_names:
        raise ConfigError(f"{where}: {top} is a module of Python itself; rename {ours.origin}")
    loaded = sys.modules.get(top)
    if ours is not None and loaded is not None and ours.origin != getattr(loaded.__spec__, "origin", None):
        raise ConfigError(f"{where}: another module {top} is loaded already ({loaded.__file__}); rename {ours.origin}")
    added = str(root.resolve())
    sys.path.insert(0, added)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    except Exception as error:  # whatever the module does while it is imported
        raise ConfigError(
            f"{where}: module {name} cannot be imported from {root} or from what is installed: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        if added in sys.path:
            sys.path.remove(added)


def _digest(module: ModuleType) -> str:
    path = Path(module.__file__ or "")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".py" and path.is_file() else "built in"
