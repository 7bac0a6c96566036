"""Clusters of what callers want and of how episodes fail, over the whole lake; and the embedder of the settings."""

from collections.abc import Sequence

from tracemill.errors import ConfigError
from tracemill.mining import embedding
from tracemill.mining.clusters import clustering, naming
from tracemill.mining.clusters.clustering import Clustered, Kind
from tracemill.mining.embedding import Embedder
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.pipelines.endpoint import api_key
from tracemill.pipelines.night import Night


def embedder(night: Night) -> Embedder:
    """The embedder of `[clusters]`. ConfigError where what it names is not there."""
    settings = night.config.clusters
    key = api_key(night.environment, settings.key_env)
    return embedding.choose(settings.embedder, url=settings.url, model=settings.model, key=key)


def cluster(night: Night) -> Clustered:
    """Puts new episodes into clusters, finds new centres where they are needed, and writes what is new."""
    night.tell("mine", "clusters", 0, 1)
    with night.lake.reader() as con:
        found = clustering.cluster(
            con,
            embedder(night),
            night_id=night.night_id,
            now_ns=night.clock(),
            seed=night.config.seed,
            naming_with=_naming(night),
        )
    if found.clusters.num_rows:
        with night.lake.transaction(f"{night.night_id}: mine clusters") as tx:
            tx.replace("clusters", found.clusters)
            if found.members.num_rows:
                tx.replace("cluster_members", found.members)
    night.tell("mine", "clusters", 1, 1)
    return found


def _naming(night: Night) -> clustering.Name | None:
    settings = night.config.clusters
    if settings.naming_model is None:
        return None
    if settings.naming_url is None:
        raise ConfigError("[clusters] naming_model needs naming_url, an OpenAI-compatible endpoint")
    model = HttpChatModel(settings.naming_url, api_key=api_key(night.environment, settings.naming_key_env))
    called = settings.naming_model

    def name(kind: Kind, groups: Sequence[tuple[Sequence[str], Sequence[str]]]) -> dict[int, str]:
        return dict(naming.ask(model, called, kind, groups))

    return name
