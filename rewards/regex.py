"""The regex verifier: the output has the form that production needs."""

import re
from dataclasses import dataclass

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.records import Case
from tracemill.rewards.code import code


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    """1 where the pattern is found in the output (`whole`: matches all of it), else 0; `forbid` turns it round."""

    pattern: str
    name: str = "regex"
    whole: bool = False
    forbid: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"reward {self.name!r}: {self.pattern!r} is no regular expression: {error}") from error

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self.pattern, self.whole, self.forbid)

    def verify(self, case: Case, output: str) -> float | None:
        hit = re.fullmatch(self.pattern, output) if self.whole else re.search(self.pattern, output)
        return float((hit is None) == self.forbid)
