"""Takes secrets and personal data out of text before anything is written, leaving consistent pseudonyms.

`Redactor` is what the rest of ingest uses; `Redaction` is what a project settles. A pseudonym
(`tracemill.ids.PSEUDONYM`) is a keyed hash: equal values look equal all over the lake, and nobody without the lake's
key can guess a value from it. Another kind of thing is one `Rule` in the file of its family.
"""

from tracemill.ingest.redact.detectors import Detector
from tracemill.ingest.redact.policy import KINDS, Redaction, Ruleset
from tracemill.ingest.redact.redactor import HARD, MAX_TEXT, Redactor, encodable
from tracemill.ingest.redact.uris import unsigned

__all__ = ["HARD", "KINDS", "MAX_TEXT", "Detector", "Redaction", "Redactor", "Ruleset", "encodable", "unsigned"]
