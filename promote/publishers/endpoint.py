"""Adapters loaded into a running model server: vLLM's `/v1/load_lora_adapter`, which tracemill's own server speaks too.

Agents ask for the adapter by the name that their prompt artifact carries, so load this first and move the pointer that
they read afterwards. Old adapters stay loaded: an agent that has not re-read its channel still asks for them. A
server forgets adapters when it restarts; staging the current bundle again brings them back.
"""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tracemill.errors import PublishError
from tracemill.ids import canonical_json
from tracemill.promote.bundle import read_prompt, replace_text, verify
from tracemill.promote.pointer import channel_name

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Endpoint:
    """One server. A bundle without an adapter needs nothing from it and is only noted.

    `state` is a folder that remembers which bundle each channel was moved to; a model server has no such notion.
    `bundles_at` is where the server sees the folder that holds the bundles; None: at the same path as we do.
    """

    name = "endpoint"

    def __init__(
        self,
        *,
        base_url: str,
        state: str | Path,
        bundles_at: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        attempts: int = 4,
        backoff_s: float = 0.5,
    ) -> None:
        root = base_url.rstrip("/")
        self.base_url = root if root.endswith("/v1") else f"{root}/v1"
        self.state = Path(state)
        self.bundles_at = bundles_at
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._backoff_s = backoff_s

    def publish(self, bundle: Path, bundle_id: str, channel: str) -> str:
        self.stage(bundle, bundle_id)
        return self.move(bundle_id, channel)

    def stage(self, bundle: Path, bundle_id: str) -> None:
        if verify(bundle) != bundle_id:
            raise PublishError(f"bundle {bundle} is not {bundle_id}")
        adapter: str | None = None
        if (bundle / "adapter").is_dir():
            adapter = str(read_prompt(bundle)["adapter"])
            if adapter not in self.loaded():
                root = bundle.absolute().as_posix() if self.bundles_at is None else f"{self.bundles_at}/{bundle.name}"
                self._call("/load_lora_adapter", {"lora_name": adapter, "lora_path": f"{root}/adapter"})
                if adapter not in self.loaded():
                    raise PublishError(f"{self.base_url} accepted adapter {adapter} but does not list it")
        self._note(self.state / "staged" / f"{bundle_id}.json", {"adapter": adapter})

    def move(self, bundle_id: str, channel: str) -> str:
        if not (self.state / "staged" / f"{bundle_id}.json").exists():
            raise PublishError(f"{self.base_url} was never given bundle {bundle_id}; stage it first")
        self._note(self.state / "channels" / f"{channel_name(channel)}.json", {"bundle_id": bundle_id})
        return self.base_url

    def current(self, channel: str) -> str | None:
        path = self.state / "channels" / f"{channel_name(channel)}.json"
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["bundle_id"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            raise PublishError(f"{path} cannot be read: {error!r}") from error

    def loaded(self) -> frozenset[str]:
        """Names of the models and adapters that the server answers to now."""
        try:
            return frozenset(str(model["id"]) for model in json.loads(self._call("/models", None))["data"])
        except (ValueError, KeyError, TypeError) as error:
            raise PublishError(f"{self.base_url}/models did not answer with a list of models: {error!r}") from error

    def _note(self, path: Path, value: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, canonical_json(value))
        except OSError as error:
            raise PublishError(f"{path}: {error}") from error

    def _call(self, path: str, body: dict[str, str] | None) -> bytes:
        """POST where there is a body, else GET; what may pass is tried again, what was refused is not."""
        headers = {"Content-Type": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        problem = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._backoff_s * 2 ** (attempt - 1))
            request = urllib.request.Request(f"{self.base_url}{path}", data=data, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    problem = f"HTTP {error.code}: {error.read(500).decode('utf-8', 'replace').strip()}"
                if error.code not in _RETRIED:
                    raise PublishError(f"{self.base_url}{path} refused: {problem}") from error
            except OSError as error:
                problem = str(error)
        raise PublishError(f"{self.base_url}{path} failed {self._attempts} times, last: {problem}")
