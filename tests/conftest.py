"""For every test: nothing leaves the machine, and small models keep to one thread."""

import os

# Before anything imports prefect, torch or a hub client: they read these once.
os.environ.update(
    {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    }
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
