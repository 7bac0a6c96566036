"""The toy desk of tests/pipelines as a project: its tracemill.toml, for the address of its model."""

SETTINGS = """
[[sources]]
path = "logs"
[[rewards]]
kind = "feedback"
[[rewards]]
kind = "exact_match"
[endpoint]
base_url = "{url}"
model = "toy"
[optimize]
optimizers = ["labeled_few_shot"]
[gate]
valid_output = "billing|shipping|returns|account"
latency_ratio = 1e6
"""
