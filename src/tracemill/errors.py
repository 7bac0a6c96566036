"""The one error tree.

TracemillError
├── ConfigError            a setting, name or argument is wrong; the user can mend it
│   └── MissingExtraError  an optional part is not installed
├── SourceError            a log source cannot be read at all (one bad record is a quarantine row instead)
│   └── FormatError        nobody recognises the format
├── StoreError             the lake is missing, broken, full or of another version
│   └── BusyError          another process holds it; transient
│       └── ConflictError  another writer was faster, or the catalog's database is away; the same work may be done again
├── QueryError             a SQL statement was refused or failed
├── EndpointError          a model endpoint is dead or misbehaves; transient
├── BudgetError            a budget in calls, tokens, money or seconds is used up
├── ContaminationError     whether learning would see what the gate judges by cannot be found out: nothing is learned
├── TrainError             a training run failed
└── PublishError           a bundle could not be published or read back

The command line prints `Error: <message>` and exits with 2. Every constructor argument goes to
`super().__init__`, so errors pickle across processes.
"""

import re
from typing import ClassVar

_USERINFO = re.compile(r"(\w{1,20}://)[^\s/@'\"]*@")
_QUERY = re.compile(r"(\w{1,20}://[^\s?'\"]*)\?[^\s'\")\]]*")


def without_credentials(text: str) -> str:
    """The text with the passwords and parameters of its URLs left out: errors are printed and logged."""
    return _QUERY.sub(r"\1?…", _USERINFO.sub(r"\1…@", text))


class TracemillError(Exception):
    """Base of everything tracemill raises on purpose. The message says what, where, what to do."""

    transient: ClassVar[bool] = False
    """True where the same call may succeed later unchanged; the only retry rule there is."""


class ConfigError(TracemillError):
    """A setting, a name or an argument is wrong."""


class MissingExtraError(ConfigError):
    """An optional part is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(extra, needed_for)
        self.extra = extra
        self.needed_for = needed_for

    def __str__(self) -> str:
        return f"{self.needed_for} needs the extra '{self.extra}': pip install 'tracemill[{self.extra}]'"


class SourceError(TracemillError):
    """A log source cannot be read at all. `uri` and `reason` hold no credentials of URLs."""

    def __init__(self, uri: str, reason: str) -> None:
        uri, reason = without_credentials(uri), without_credentials(reason)
        super().__init__(uri, reason)
        self.uri = uri
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.uri}: {self.reason}"


class FormatError(SourceError):
    """Nobody recognises the format of a source."""


class StoreError(TracemillError):
    """The lake is missing, broken, full or of another version."""


class BusyError(StoreError):
    """Another process holds the lake, or a nightly run is already going."""

    transient = True


class ConflictError(BusyError):
    """Another writer of a shared lake was faster, or its database was away: nothing was written."""


class QueryError(TracemillError):
    """A SQL statement was refused or failed."""


class EndpointError(TracemillError):
    """A model endpoint is dead or misbehaves."""

    transient = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"model endpoint {self.url}: {self.reason}"


class BudgetError(TracemillError):
    """A budget in calls, tokens, money or seconds is used up."""


class ContaminationError(TracemillError):
    """Whether cases to learn from are too near those of the gate cannot be found out, so nothing is learned."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            "cannot find out whether cases to learn from are too near those that the gate judges by, so nothing is "
            f"learned: {self.reason}; see [clusters] in tracemill.toml"
        )


class TrainError(TracemillError):
    """A training run failed."""


class PublishError(TracemillError):
    """A bundle could not be published or read back."""
