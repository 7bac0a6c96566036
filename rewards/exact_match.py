"""The exact-match verifier: the output says what is known to be right."""

import re
import unicodedata
from dataclasses import dataclass

from tracemill.ids import content_id
from tracemill.records import Case
from tracemill.rewards.code import code

_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactMatch:
    """1 where the output equals the case's expected output, 0 where it differs, None where none is known.

    `attribute` names the task attribute that holds the right output, for declared tasks. `strip` ignores blanks around
    and folds those inside, `casefold` ignores case, `punctuation` ignores all but words and numbers.
    """

    name: str = "exact_match"
    attribute: str | None = None
    strip: bool = True
    casefold: bool = True
    punctuation: bool = False

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self.attribute, self.strip, self.casefold, self.punctuation)

    def verify(self, case: Case, output: str) -> float | None:
        expected = case.expected
        if expected is None and self.attribute is not None and case.task.get(self.attribute) is not None:
            expected = str(case.task[self.attribute])
        return None if expected is None else float(self._normal(output) == self._normal(expected))

    def _normal(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        if self.punctuation:
            text = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text)
        if self.strip or self.punctuation:
            text = _BLANKS.sub(" ", text).strip()
        return text.casefold() if self.casefold else text
