"""Labels to reward models: a model that learns is fitted first, and what it learned is kept with what it came from."""

from dataclasses import replace

from tracemill.pipelines import clustering, preferring
from tracemill.pipelines.config import RewardConfig
from tracemill.pipelines.night import Night, rows
from tracemill.protocols import Fitted, RewardModel
from tracemill.rewards.learned import Learned
from tracemill.rewards.preference import Preference


def fitted(night: Night, model: RewardModel, settings: RewardConfig) -> RewardModel:
    """The model as the lake's labels teach it now. A version that is new stands in `reward_models` afterwards.

    Where a trajectory that it learned from is forgotten, its row goes with it, and it is fitted anew.
    """
    snapshot = night.lake.snapshot_id()
    if isinstance(model, Learned) and model.texts:
        model = replace(model, embedder=clustering.embedder(night))
    with night.judge(model.name, snapshot) as con:
        taught = model.fit(con, now_ns=night.clock())
    if isinstance(taught, Preference):
        taught = preferring.trained(night, taught)
    with night.lake.reader(snapshot) as con:
        known = con.execute(
            "SELECT 1 FROM reward_models WHERE name = ? AND version = ?", [taught.name, taught.version]
        ).fetchone()
    if taught.state is None or known is not None:
        return taught
    row = {
        "name": taught.name,
        "version": taught.version,
        "kind": settings.kind,
        "state": taught.state,
        "n_train": taught.n_train if isinstance(taught, Fitted) else None,
        "lineage": list(taught.lineage) if isinstance(taught, Fitted) else None,
        "snapshot_id": snapshot,
        "at": night.clock(),
    }
    with night.lake.transaction(f"{night.night_id}: fit {taught.name}") as tx:
        tx.replace("reward_models", rows("reward_models", [row]))
    return taught
