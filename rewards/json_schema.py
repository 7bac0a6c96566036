"""The JSON-Schema verifier: the output is JSON of the form that production needs."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.records import Case
from tracemill.rewards.code import code
from tracemill.rewards.schemas import BadSchemaError, Validator, validator

_FENCE = re.compile(r"```[ \t]*(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema:
    """1 where the output, or its only code fence, is JSON that the schema allows, else 0.

    `schema` is the schema itself, or the path of a JSON file, absolute or under `root`. References are followed inside
    the schema only: nothing is fetched. `whole` forbids the fence: the output must be the JSON.
    """

    root: Path
    schema: Mapping[str, Any] | str
    name: str = "json_schema"
    whole: bool = False
    _check: Validator = field(init=False, repr=False, compare=False)
    _digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        schema = self._loaded()
        try:
            check = validator(schema)
        except BadSchemaError as fault:
            raise ConfigError(f"reward {self.name!r}: schema is no JSON Schema: {fault}") from fault
        object.__setattr__(self, "_check", check)
        object.__setattr__(self, "_digest", content_id(json.dumps(schema, sort_keys=True)))

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self._digest, self.whole)

    def verify(self, case: Case, output: str) -> float | None:
        text = output.strip()
        fences = _FENCE.findall(text)
        if len(fences) == 1 and not self.whole:
            text = fences[0].strip()
        try:
            return float(self._check.fault(text) is None)
        except BadSchemaError:  # a reference that leads nowhere, found on the way
            return None

    def _loaded(self) -> Any:
        if not isinstance(self.schema, str):
            return dict(self.schema)
        path = self.root / self.schema
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"reward {self.name!r}: schema = {self.schema!r}: {path}: {error}") from error
