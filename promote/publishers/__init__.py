"""Where bundles go. A new publisher is one file here, one line in PUBLISHERS and one in the contract test.

Publishing is two steps, so that several places can move together: `stage` brings the bundle there without anyone
noticing, `move` points the channel to it. `publish_all` moves no channel before every place has the bundle.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tracemill.errors import ConfigError, PublishError
from tracemill.promote.pointer import channel_name
from tracemill.promote.publishers.endpoint import Endpoint
from tracemill.promote.publishers.folder import Folder
from tracemill.promote.publishers.url import Url
from tracemill.protocols import Publisher


class StagedPublisher(Publisher, Protocol):
    """A publisher whose `publish` is `stage`, then `move`. Both may be repeated: that changes nothing."""

    def stage(self, bundle: Path, bundle_id: str) -> None:
        """Verify the bundle and bring it there; no channel changes. Raises PublishError."""
        ...

    def move(self, bundle_id: str, channel: str) -> str:
        """Point the channel to a staged bundle, atomically, and return the URI that agents read."""
        ...


PUBLISHERS: Mapping[str, Callable[..., StagedPublisher]] = {
    "folder": Folder,
    "url": Url,
    "endpoint": Endpoint,
}


def build(kind: str, **options: object) -> StagedPublisher:
    """A publisher by its registered name, as a configuration names it."""
    if kind not in PUBLISHERS:
        raise ConfigError(f"unknown publisher {kind!r}; known: {', '.join(sorted(PUBLISHERS))}")
    try:
        return PUBLISHERS[kind](**options)
    except TypeError as error:
        raise ConfigError(f"publisher {kind!r}: {error}") from error


def publish_all(publishers: Sequence[StagedPublisher], bundle: Path, bundle_id: str, channel: str) -> list[str]:
    """The bundle at every place, then the channel of every place moved in the given order; their URIs.

    Raises PublishError where a place cannot take the bundle (no channel has moved), or where a move fails (places
    that had moved to it are moved back to where they stood; one that stood nowhere stays and is named).
    """
    if not publishers:
        raise ConfigError("no publisher is configured; name at least one, such as kind = 'folder'")
    channel_name(channel)
    before = [publisher.current(channel) for publisher in publishers]
    for publisher in publishers:
        publisher.stage(bundle, bundle_id)
    uris: list[str] = []
    for publisher in publishers:
        try:
            uris.append(publisher.move(bundle_id, channel))
        except PublishError as error:
            stuck = _move_back(publishers[: len(uris)], before, channel)
            note = f"; still at the new bundle: {', '.join(stuck)}" if stuck else "; no channel has moved"
            raise PublishError(f"publisher {publisher.name}: {error}{note}") from error
    return uris


def _move_back(moved: Sequence[StagedPublisher], before: Sequence[str | None], channel: str) -> list[str]:
    stuck = []
    for publisher, bundle_id in zip(moved, before, strict=False):
        if bundle_id is None:
            stuck.append(publisher.name)
            continue
        try:
            publisher.move(bundle_id, channel)
        except PublishError:
            stuck.append(publisher.name)
    return stuck
