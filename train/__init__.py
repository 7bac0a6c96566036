"""Logged transitions to better weights: datums, trainers in a process of their own, and a server for small models.

`datums.build(cases, artifact, kind=…, model_folder=…)` makes training rows, `launch(TrainJob(…))` trains an adapter on
them, `serving.start(model, …)` serves it. `registry.TRAINERS` lists the algorithms, `models.resolve` finds base models.
"""

from tracemill.train.job import TrainJob, TrainResult, launch

__all__ = ["TrainJob", "TrainResult", "launch"]
