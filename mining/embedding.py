"""Texts as vectors: by weights that come in a package, by hashes of words, or by a server. Nothing is downloaded."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tracemill.errors import ConfigError, EndpointError, MissingExtraError

Vectors = npt.NDArray[np.float32]
Kind = Literal["auto", "wordllama", "hashing", "endpoint"]
LONGEST = 2_000
"""Characters of a text that are looked at."""
_HASHED = 512
_WORD = re.compile(r"[^\W\d_]{2,}")


class Embedder(Protocol):
    """Turns texts into vectors of unit length, one row each; a text that says nothing is all zeros."""

    @property
    def name(self) -> str:
        """Vectors of one name can be compared, tonight's with last month's."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


def choose(
    kind: Kind = "auto",
    *,
    url: str | None = None,
    model: str | None = None,
    key: str | None = None,
    timeout_s: float = 120.0,
) -> Embedder:
    """The embedder of this kind; `auto`: a server where there is a `url`, else wordllama where it is installed, else
    hashing. ConfigError where what is asked for is not there."""
    if kind == "auto":
        kind = "endpoint" if url is not None else "wordllama" if find_spec("wordllama") is not None else "hashing"
    if kind == "endpoint":
        if url is None or model is None:
            raise ConfigError('embedder = "endpoint" needs the server and its model: [clusters] url and model')
        return EndpointEmbedder(url=url, model=model, key=key, timeout_s=timeout_s)
    if kind == "wordllama":
        if find_spec("wordllama") is None:
            raise MissingExtraError("patterns", "the embedder wordllama")
        return WordLlamaEmbedder()
    return HashingEmbedder()


def distinct(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """A row for each text; equal texts are embedded once."""
    places: dict[str, int] = {}
    at = [places.setdefault(text, len(places)) for text in texts]
    vectors = embedder.embed(list(places))
    return vectors[np.array(at, dtype=np.int64)] if at else vectors


def unit(vectors: npt.NDArray[Any]) -> Vectors:
    """Rows at unit length; a row of zeros, or of what is no number, is all zeros."""
    clean = np.nan_to_num(vectors.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.linalg.norm(clean, axis=1, keepdims=True)
    found: Vectors = np.divide(clean, length, out=np.zeros_like(clean), where=length > 1e-9)
    return found


@dataclass(frozen=True, slots=True)
class HashingEmbedder:
    """Words and their beginnings under signed hashes: knows no synonyms, needs nothing installed."""

    @property
    def name(self) -> str:
        return f"hashing-{_HASHED}/1"

    def embed(self, texts: Sequence[str]) -> Vectors:
        found = np.zeros((len(texts), _HASHED), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            counts: dict[str, int] = {}
            for word in words(text[:LONGEST]):
                counts[word] = counts.get(word, 0) + 1
            for word, n in counts.items():
                # What is said twice says little more; a long word says more than a short one.
                weight = (1 + np.log(n)) * min(len(word), 9) / 9
                for feature, share in ((word, 1.0), (word[:5] + "-", 0.7)):
                    place, sign = _hashed(feature)
                    row[place] += sign * weight * share
        return unit(found)


@lru_cache(maxsize=1 << 17)
def _hashed(feature: str) -> tuple[int, float]:
    digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    number = int.from_bytes(digest, "big")
    return number % _HASHED, 1.0 if number >> 31 else -1.0


# Words that say nothing of what a text is about; of other languages their shortness tells.
STOP = frozenset(
    _WORD.findall("""
    about above after again against all also am an and any are as at be because been before being below between both but
    by can could dear did do does doing done during each few for from had has have hello her here hey hi him his how if
    in into is it its just may me might more most must my no nor not of off on once only onto or other our out over own
    please same she should so some such than thank thanks that the their them then there they this to too under until us
    very was we were what when where which while who whom whose why will with would yes you your
    """)
)


def words(text: str) -> list[str]:
    """The words of a text that say what it is about, in lower case, without accents of their own."""
    found: list[str] = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [word for word in found if word not in STOP]


@dataclass(slots=True)
class WordLlamaEmbedder:
    """Static vectors of 256 numbers, averaged over the words; weights come in the wheel (extra `patterns`)."""

    _model: Any = None

    @property
    def name(self) -> str:
        return "wordllama-l2_supercat-256/1"

    def embed(self, texts: Sequence[str]) -> Vectors:
        if self._model is None:
            self._model = self._load()
        if not len(texts):
            return np.zeros((0, 256), dtype=np.float32)
        # Of like length together: a batch is as wide as its longest text.
        order = sorted(range(len(texts)), key=lambda i: (min(len(texts[i]), LONGEST), i))
        found = np.empty((len(texts), 256), dtype=np.float32)
        cut = [texts[i][:LONGEST].encode("utf-8", "replace").decode("utf-8") for i in order]
        found[order] = self._model.embed(cut)
        return unit(found)

    @staticmethod
    def _load() -> Any:
        wordllama: Any = import_module("wordllama")  # has no types
        # Its own look-up of the bundled weights misses them where downloads are off.
        folder = Path(str(wordllama.__file__)).parent
        return wordllama.WordLlama.load(cache_dir=folder, disable_download=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointEmbedder:
    """An OpenAI-compatible server: POST `url`/embeddings, as many texts at a time."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    batch: int = 128

    @property
    def name(self) -> str:
        return f"endpoint:{self.model}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        parts: list[Vectors] = []
        with httpx.Client(timeout=self.timeout_s, headers=headers) as client:
            for start in range(0, len(texts), self.batch):
                # Servers refuse an empty text.
                asked = [text[:LONGEST] or " " for text in texts[start : start + self.batch]]
                parts.append(self._ask(client, asked))
        if len({part.shape[1] for part in parts}) > 1:
            raise EndpointError(self.url, "its embeddings differ in length")
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    def _ask(self, client: Any, asked: list[str]) -> Vectors:
        import httpx

        where = f"{self.url.rstrip('/')}/embeddings"
        try:
            answer = client.post(where, json={"model": self.model, "input": asked, "encoding_format": "float"})
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            found = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise EndpointError(where, f"gave no embeddings: {error}; see [clusters] url and model") from error
        if found.ndim != 2 or len(found) != len(asked):
            raise EndpointError(where, f"gave {len(rows)} embeddings for {len(asked)} texts")
        if not np.isfinite(found).all():
            raise EndpointError(where, "gave embeddings with numbers that are none")
        return unit(found)
