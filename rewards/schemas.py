"""Does a JSON text follow a JSON Schema? Fast where the schema is plain, right everywhere, safe with any schema.

Schemas come from logs, too (the definitions of tools): nothing is fetched, patterns take linear time, and a schema that
is wrong or leads nowhere is a BadSchemaError, never a verdict.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import re2  # type: ignore[import-untyped]

_SIMPLE: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": dict[str, Any],
    "array": list[Any],
    "null": None,
}
_NOTES = frozenset(("description", "title", "default", "examples", "example", "$schema", "strict"))
"""Keywords that forbid nothing."""
MAX_CHARS = 1_000_000
"""Longer texts are not looked at: no agent's arguments are."""


class BadSchemaError(Exception):
    """A schema that cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class Validator:
    """What a schema allows. `fault` says what is wrong with a text; None: nothing."""

    schema: Any
    _full: Any
    _quick: Any

    def fault(self, text: str) -> str | None:
        """`malformed: …` for what is no JSON, `invalid: …` for JSON that the schema forbids. Raises BadSchemaError."""
        if self._quick is not None:
            try:
                self._quick.decode(text)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                pass  # the full check says whether and why: it alone rejects
            else:
                return None
        if len(text) > MAX_CHARS:
            return f"malformed: longer than {MAX_CHARS} characters"
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            return f"malformed: {error}"
        return self.fault_of(value)

    def fault_of(self, value: Any) -> str | None:
        """The same for a decoded value."""
        from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

        try:
            error = best_match(self._full.iter_errors(value))
        except Exception as broken:  # whatever a stranger's schema makes the library do
            raise BadSchemaError(f"{type(broken).__name__}: {broken}"[:200]) from broken
        return None if error is None else f"invalid: {error.json_path}: {error.message}"[:300]


def validator(schema: Any) -> Validator:
    """The validator of a schema of any draft. Raises BadSchemaError where it is none."""
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import extend, validator_for  # type: ignore[import-untyped]
    from referencing import Registry

    if not isinstance(schema, Mapping | bool):
        raise BadSchemaError(f"a {type(schema).__name__}, not an object")
    draft = validator_for(schema, default=Draft202012Validator)
    try:
        draft.check_schema(schema)
        safe = extend(draft, {"pattern": _pattern, "patternProperties": _no_verdict})
        full = safe(schema, registry=Registry())
    except SchemaError as error:
        raise BadSchemaError(error.message[:200]) from error
    except Exception as error:  # the schema's depth, its numbers
        raise BadSchemaError(f"{type(error).__name__}: {error}"[:200]) from error
    plain = _plain(schema)
    return Validator(schema, full, None if plain is None else msgspec.json.Decoder(plain))


def _plain(schema: Any) -> Any:
    """A type that msgspec decodes whatever the schema allows into, and nothing else; None where it has no such type.

    Objects whose properties are of one simple type or texts of an enumeration: what most tools take.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return None
    if not schema.keys() <= _NOTES | {"type", "properties", "required", "additionalProperties"}:
        return None
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(schema.get("additionalProperties", True), bool) or not set(required) <= properties.keys():
        return None
    fields: list[Any] = []
    for place, (name, one) in enumerate(properties.items()):
        kind = _simple(one)
        if kind is _UNKNOWN:
            return None
        given: Any = (f"f{place}", kind) if name in required else (f"f{place}", kind | msgspec.UnsetType, msgspec.UNSET)
        fields.append(given)
    fields.sort(key=len)
    return msgspec.defstruct(
        "Arguments",
        fields,
        rename={f"f{place}": name for place, name in enumerate(properties)},
        forbid_unknown_fields=schema.get("additionalProperties", True) is False,
    )


_UNKNOWN = object()


def _simple(schema: Any) -> Any:
    if not isinstance(schema, Mapping) or not schema.keys() <= _NOTES | {"type", "enum"}:
        return _UNKNOWN
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _SIMPLE:
        return _UNKNOWN
    if "enum" not in schema:
        return _SIMPLE[kind]
    texts = schema["enum"]
    if kind != "string" or not texts or not all(isinstance(text, str) for text in texts):
        return _UNKNOWN
    return Literal[tuple(texts)]


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As the standard has it, in linear time; a pattern that RE2 does not know forbids nothing."""
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, str) or not isinstance(pattern, str):
        return
    options = re2.Options()
    options.log_errors = False
    try:
        found = re2.compile(pattern, options).search(instance)
    except re2.error:
        return
    if not found:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _no_verdict(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    yield from ()


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")
