"""Finding what no pattern describes, such as names of people: the protocol of a plug-in, and those that ship.

A detector is trusted code that is slow and misses things; patterns run first and what they took is not asked again.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from tracemill.errors import ConfigError, MissingExtraError

_CHARS = 20_000
"""About how much text a model is given at once."""


class Detector(Protocol):
    """Finds personal data in text. Holds its model; one detector serves many batches."""

    @property
    def version(self) -> str:
        """Names code, model and knobs: with another version other text may be found."""
        ...

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """(start, end, kind) in characters, in any order; `kind` is one of the pseudonyms' kinds, mostly "NAME"."""
        ...


class Presidio:
    """Names of people by Microsoft Presidio and its spaCy model."""

    def __init__(self, *, model: str | None = None, language: str = "en", threshold: float = 0.6) -> None:
        try:
            analyzer = import_module("presidio_analyzer")
            provider = import_module("presidio_analyzer.nlp_engine").NlpEngineProvider
            spacy = import_module("spacy")
        except ImportError as error:
            raise MissingExtraError("names", "finding names with presidio") from error
        model = model or f"{language}_core_web_sm"
        # Presidio would download it, unasked, and end the process where it cannot.
        if not spacy.util.is_package(model) and not Path(model).exists():
            raise ConfigError(f"the spaCy model {model} is not installed: python -m spacy download {model}")
        engine = provider(
            nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": language, "model_name": model}]}
        ).create_engine()
        self._analyzer = analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=[language])
        self._language, self._threshold = language, threshold
        self.version = f"presidio {_version('presidio_analyzer')} {model} {threshold}"

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        for at, piece in pieces(text):
            for hit in self._analyzer.analyze(
                piece, language=self._language, entities=["PERSON"], score_threshold=self._threshold
            ):
                yield at + hit.start, at + hit.end, "NAME"


class Gliner:
    """Names of people by a GLiNER model."""

    def __init__(self, *, model: str = "urchade/gliner_multi_pii-v1", threshold: float = 0.5) -> None:
        try:
            gliner = import_module("gliner")
        except ImportError as error:
            raise ConfigError("finding names with gliner needs the package: pip install gliner") from error
        self._model = gliner.GLiNER.from_pretrained(model)
        self._threshold = threshold
        self.version = f"gliner {_version('gliner')} {model} {threshold}"

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        for at, piece in pieces(text, chars=1_000):
            for hit in self._model.predict_entities(piece, ["person"], threshold=self._threshold):
                yield at + hit["start"], at + hit["end"], "NAME"


_SHIPPED: Mapping[str, Callable[..., Detector]] = {"presidio": Presidio, "gliner": Gliner}


def detector(name: str, options: Mapping[str, Any]) -> Detector:
    """The detector of a name: one that ships, or "module:attribute" of one of your own, made with `options`.

    Raises ConfigError where there is none of that name, it or its model is not installed, or it does not take these
    options.
    """
    make = _SHIPPED.get(name)
    if make is None:
        module, _, attribute = name.partition(":")
        if not attribute:
            raise ConfigError(
                f'[redaction] names = {name!r}: unknown; known: {", ".join(_SHIPPED)}, or "module:Class" of your own'
            )
        try:
            make = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"[redaction] names = {name!r}: it cannot be imported: {error}") from error
    try:
        found = make(**options)
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"[redaction] names = {name!r}: it cannot be made with {dict(options)}: {error}") from error
    if not callable(getattr(found, "find", None)) or not isinstance(getattr(found, "version", None), str):
        raise ConfigError(f"[redaction] names = {name!r}: a detector has a `version` and a method `find(text)`")
    return found


def pieces(text: str, *, chars: int = _CHARS) -> Iterator[tuple[int, str]]:
    """The text in pieces of about `chars`, cut after a line or a blank, each with its place."""
    at = 0
    while at < len(text):
        end = at + chars
        if end < len(text):
            cut = max(text.rfind("\n", at, end), text.rfind(" ", at, end))
            end = cut + 1 if cut > at else end
        yield at, text[at:end]
        at = end


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
