"""What levels of `[optimize] ladder` need that is set elsewhere: refused when settings are read, else by the branch."""

from tracemill.pipelines.config import Config

NO_JUDGE = (
    "[optimize] ladder has 'pairwise', which asks a judge: add a [[rewards]] of kind judge for this agent that is not "
    "sealed and did not fail its latest report, or take it out"
)
NO_ENVIRONMENT = "[optimize] ladder has 'executed': set make in [environment], or take it out"
NO_PLAYER = (
    "[optimize] ladder has 'simulated', which asks a model to play tools and users: set reflection_model in "
    "[optimize], or model in [endpoint]"
)


def lacking(config: Config) -> str | None:
    """The sentence about a level that these settings can never do; None where it hangs on what the lake says, too."""
    levels, endpoint = config.optimize.ladder, config.endpoint
    open_judges = (
        one.kind == "judge" and (one.name or one.kind) not in config.combined.sealed for one in config.rewards
    )
    if "pairwise" in levels and not any(open_judges):
        return NO_JUDGE
    if "executed" in levels and config.environment.make is None:
        return NO_ENVIRONMENT
    nameless = endpoint.base_url is not None and endpoint.model is None
    if "simulated" in levels and nameless and config.optimize.reflection_model is None:
        return NO_PLAYER
    return None
