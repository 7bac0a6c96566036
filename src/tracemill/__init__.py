"""tracemill: production agent logs in, better prompts and better weights out, proven and published."""

from tracemill.client import LivePrompt, live_prompt

__all__ = ["LivePrompt", "__version__", "live_prompt"]
__version__ = "0.1.0"
