"""The registry of log formats. The order is the order of detection: the first reader that claims a source reads it.

So what is told by one exact mark stands before what is told by a likeness, and what asks least of a file is last. How
to add a format: CONTRIBUTING.md.
"""

from tracemill.ingest.formats.agent_lightning import AgentLightning
from tracemill.ingest.formats.anthropic_batch import AnthropicBatch
from tracemill.ingest.formats.anthropic_messages import AnthropicMessages
from tracemill.ingest.formats.atif.reader import Atif
from tracemill.ingest.formats.claude_code import ClaudeCode
from tracemill.ingest.formats.claude_stream import ClaudeStream
from tracemill.ingest.formats.codex import Codex
from tracemill.ingest.formats.copilot_cli import CopilotCli
from tracemill.ingest.formats.cursor import Cursor
from tracemill.ingest.formats.droid import Droid
from tracemill.ingest.formats.feedback import Feedback
from tracemill.ingest.formats.fine_tuning import FineTuning
from tracemill.ingest.formats.fireact import FireAct
from tracemill.ingest.formats.gemini_cli import GeminiCli
from tracemill.ingest.formats.hermes import Hermes
from tracemill.ingest.formats.inspect.reader import InspectEval
from tracemill.ingest.formats.intercode import InterCode
from tracemill.ingest.formats.jaeger import Jaeger
from tracemill.ingest.formats.langfuse.reader import Langfuse
from tracemill.ingest.formats.langsmith.reader import LangSmith
from tracemill.ingest.formats.letta_code import LettaCode
from tracemill.ingest.formats.litellm import LiteLLM
from tracemill.ingest.formats.mini_swe_agent import MiniSweAgent
from tracemill.ingest.formats.mlflow import MLflow
from tracemill.ingest.formats.openai_agents import OpenAIAgents
from tracemill.ingest.formats.openai_batch import OpenAIBatch
from tracemill.ingest.formats.openai_chat import OpenAIChat
from tracemill.ingest.formats.openai_chunks import OpenAIChunks
from tracemill.ingest.formats.openai_pages import OpenAIPages
from tracemill.ingest.formats.openai_responses import OpenAIResponses
from tracemill.ingest.formats.opencode import OpenCode
from tracemill.ingest.formats.openhands.reader import OpenHands
from tracemill.ingest.formats.openhands_sdk import OpenHandsSdk
from tracemill.ingest.formats.otel_spans import OtelSpans
from tracemill.ingest.formats.otlp_json import OtlpJson
from tracemill.ingest.formats.otlp_protobuf import OtlpProtobuf
from tracemill.ingest.formats.pi import Pi
from tracemill.ingest.formats.preferences import Preferences
from tracemill.ingest.formats.swe_agent import SweAgent
from tracemill.ingest.formats.tau2 import Tau2
from tracemill.ingest.formats.tau_bench import TauBench
from tracemill.ingest.formats.who_and_when import WhoAndWhen
from tracemill.ingest.reader import Reader

FORMATS: tuple[Reader, ...] = (
    InspectEval(),
    Atif(),
    AgentLightning(),
    OtlpJson(),
    OtlpProtobuf(),
    Jaeger(),
    Langfuse(),
    LangSmith(),
    MLflow(),
    OpenAIAgents(),
    OtelSpans(),
    FireAct(),
    TauBench(),
    InterCode(),
    MiniSweAgent(),
    SweAgent(),
    OpenHandsSdk(),
    OpenHands(),
    WhoAndWhen(),
    Tau2(),
    ClaudeCode(),
    Pi(),
    LiteLLM(),
    OpenAIChunks(),
    AnthropicMessages(),
    Preferences(),
    OpenAIBatch(),
    AnthropicBatch(),
    OpenAIPages(),
    OpenAIResponses(),
    Codex(),
    ClaudeStream(),
    GeminiCli(),
    CopilotCli(),
    OpenCode(),
    Cursor(),
    Droid(),
    LettaCode(),
    Hermes(),
    FineTuning(),
    OpenAIChat(),
    Feedback(),
)
