"""The registry of log formats. The order is the order of detection: the first reader that claims a source reads it."""

from tracemill.ingest.formats.feedback import Feedback
from tracemill.ingest.formats.intercode import InterCode
from tracemill.ingest.formats.openai_chat import OpenAIChat
from tracemill.ingest.formats.otlp_json import OtlpJson
from tracemill.ingest.formats.otlp_protobuf import OtlpProtobuf
from tracemill.ingest.formats.tau_bench import TauBench
from tracemill.ingest.reader import Reader

FORMATS: tuple[Reader, ...] = (
    OtlpJson(),
    OtlpProtobuf(),
    TauBench(),
    InterCode(),
    OpenAIChat(),
    Feedback(),
)
