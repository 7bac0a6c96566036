"""How fast redaction is, how much of what is planted it finds, and how much harmless text it leaves alone.

    python bench/redact.py [--quick]

Values of every kind are made at random (valid check digits, the providers' forms of keys), planted in prose, JSON, JSON
in JSON, environment files, URLs and code, and looked for in what comes out. Harmless text like them (versions,
times, hashes, ids, prices, numbers) must come out unchanged. Speed is measured on the texts of real logs where
TRACEMILL_DATA names them, else on generated ones. Peers in the same run:

    stdlib_re        the same rules with Python's re instead of RE2, rule by rule
    detect_secrets   where installed: secrets only, line by line

Prints one JSON object as its last line. `recall`: share of planted values of which nothing is left; `precision`: share
of harmless texts unchanged; `chars_per_s`: single thread, each distinct text once.
"""

import argparse
import base64
import json
import os
import random
import re
import string
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tracemill.ingest.redact import KINDS, Redactor, encodable
from tracemill.ingest.redact.national import aadhaar, cpf
from tracemill.ingest.redact.numbers import luhn

KEY = b"bench" * 6
Make = Callable[[random.Random], str]
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits


def chars(alphabet: str, least: int, most: int | None = None) -> Make:
    return lambda r: "".join(r.choices(alphabet, k=r.randint(least, most or least)))


def key(prefix: str, alphabet: str, least: int, most: int | None = None) -> Make:
    """A key as providers make them: random, so it holds a digit."""
    make = chars(alphabet, least - 1, (most or least) - 1)
    return lambda r: prefix + make(r)[:-1] + r.choice("23456789") + make(r)[:1]


def token(r: random.Random) -> str:
    part = chars(ALNUM + "-_", 20, 40)
    return f"eyJ{part(r)}.eyJ{part(r)}.{part(r)}"


def pem(r: random.Random) -> str:
    body = base64.b64encode(r.randbytes(180)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    kind = r.choice(["", "RSA ", "EC ", "OPENSSH "])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


PASSWORD = chars(ALNUM + "!$%^*_-+", 10, 20)
SECRETS: dict[str, Make] = {
    "openai": key("sk-proj-", ALNUM + "-_", 40, 100),
    "openai_old": key("sk-", ALNUM, 48),
    "anthropic": key("sk-ant-api03-", ALNUM + "-_", 80, 95),
    "openrouter": key("sk-or-v1-", HEX, 64),
    "langfuse": key("sk-lf-", HEX, 36),
    "groq": key("gsk_", ALNUM, 52),
    "xai": key("xai-", ALNUM, 80),
    "perplexity": key("pplx-", ALNUM, 48),
    "huggingface": lambda r: "hf_" + chars(string.ascii_letters, 34)(r),
    "replicate": key("r8_", ALNUM, 37),
    "nvidia": key("nvapi-", ALNUM + "-_", 64),
    "tavily": key("tvly-", ALNUM, 32),
    "pinecone": key("pcsk_", ALNUM, 60),
    "langsmith": key("lsv2_pt_", HEX, 32),
    "aws_id": chars(UPPER, 16),
    "google": key("AIza", ALNUM + "-_", 35),
    "google_oauth": key("ya29.", ALNUM + "-_", 60),
    "google_client": key("GOCSPX-", ALNUM + "-_", 28),
    "github": key("ghp_", ALNUM, 36),
    "github_fine": key("github_pat_", ALNUM + "_", 82),
    "gitlab": key("glpat-", ALNUM + "-_", 20),
    "slack": lambda r: f"xoxb-{chars(string.digits, 12)(r)}-{chars(string.digits, 12)(r)}-{chars(ALNUM, 24)(r)}",
    "stripe": key("sk_live_", ALNUM, 24),
    "stripe_hook": key("whsec_", ALNUM, 32),
    "sendgrid": lambda r: f"SG.{chars(ALNUM + '-_', 22)(r)}.{chars(ALNUM + '-_', 43)(r)}",
    "twilio": key("SK", HEX, 32),
    "mailgun": key("key-", HEX, 32),
    "mailchimp": lambda r: chars(HEX, 32)(r) + "-us14",
    "npm": key("npm_", ALNUM, 36),
    "pypi": key("pypi-AgEIcHlwaS5vcmc", ALNUM + "-_", 70),
    "digitalocean": key("dop_v1_", HEX, 64),
    "shopify": key("shpat_", HEX, 32),
    "telegram": lambda r: f"{chars(string.digits[1:], 9)(r)}:AA{chars(ALNUM + '-_', 33)(r)}",
    "discord": lambda r: f"M{chars(ALNUM, 25)(r)}.{chars(ALNUM, 6)(r)}.{chars(ALNUM + '-_', 38)(r)}",
    "azure_client": lambda r: f"{chars(ALNUM, 3)(r)}8Q~{chars(ALNUM + '_-', 34)(r)}",
    "vault": key("hvs.", ALNUM, 90),
    "doppler": key("dp.pt.", ALNUM, 43),
    "grafana": key("glsa_", ALNUM, 40),
    "databricks": key("dapi", HEX, 32),
    "linear": key("lin_api_", ALNUM, 40),
    "notion": key("ntn_", ALNUM, 46),
    "figma": key("figd_", ALNUM + "-_", 40),
    "postman": key("PMAK-", HEX, 58),
    "supabase": key("sbp_", HEX, 40),
    "terraform": lambda r: f"{chars(ALNUM, 14)(r)}.atlasv1.{chars(ALNUM, 67)(r)}",
    "airtable": lambda r: f"pat{chars(ALNUM, 14)(r)}.{chars(HEX, 64)(r)}",
    "jwt": token,
    "private_key": pem,
}
SECRETS["aws_id"] = lambda r: "AKIA" + chars(UPPER, 16)(r)
NAMED: dict[str, tuple[str, Make, str]] = {
    "password": ("password=", PASSWORD, " and more"),
    "passwd": ('passwd: "', PASSWORD, '"'),
    "passwort": ("Passwort: ", PASSWORD, "\n"),
    "db_pass": ("export DB_PASS=", PASSWORD, "\n"),
    "option": ("deploy --user bob --password ", key("", ALNUM, 10, 20), " --verbose"),
    "curl_user": ("curl -s -u bob:", PASSWORD, " https://api.internal/x"),
    "mysql_option": ("mysql -h db -u root -p", key("", ALNUM, 10, 20), " app"),
    "aws_secret": ("AWS_SECRET_ACCESS_KEY=", chars(ALNUM + "/+", 40), "\n"),
    "mistral": ("export MISTRAL_API_KEY=", chars(ALNUM, 32), "\n"),
    "wandb": ("wandb_key: ", key("", HEX, 40), "\n"),
    "client_secret": ('"client_secret": "', chars(ALNUM + "-_~.", 24, 40), '"'),
    "bearer": ("Authorization: Bearer ", chars(ALNUM + "-_", 30, 60), "\n"),
    "basic": ("Authorization: Basic ", lambda r: base64.b64encode(PASSWORD(r).encode() + b"::").decode(), "\n"),
    "cookie": ("Cookie: session=", chars(ALNUM, 32), "\n"),
    "dsn": ("postgresql://svc:", chars(ALNUM, 12, 20), "@db.internal:5432/app"),
    "mongo": ("mongodb+srv://u:", chars(ALNUM, 12, 20), "@c0.mongodb.net/x"),
    "azure_storage": (
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=",
        lambda r: base64.b64encode(r.randbytes(64)).decode(),
        ";EndpointSuffix=core.windows.net",
    ),
    "ado": ("Server=db;User Id=sa;Password=", chars(ALNUM, 12, 20), ";Encrypt=true"),
    "presigned": ("https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature=", chars(HEX, 64), "&x=1"),
    "sas": ("https://a.blob.core.windows.net/c?sv=2024&sig=", chars(ALNUM, 44), "%3D"),
    "slack_hook": (
        "https://hooks.slack.com/services/",
        lambda r: "T02AB4CD8/B0" + chars(ALNUM, 9)(r) + "/" + chars(ALNUM, 24)(r),
        "",
    ),
}


def check_digit(body: str, valid: Callable[[str], bool]) -> str:
    return next(body + digit for digit in "0123456789" if valid(body + digit))


def card(r: random.Random) -> str:
    prefix, size = r.choice(
        [("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("3530", 16), ("62", 19), ("4", 13)]
    )
    number = check_digit(prefix + chars(string.digits, size - len(prefix) - 1)(r), luhn)
    gap = r.choice(["", "", " ", "-"])
    if size == 15:
        return gap.join((number[:4], number[4:10], number[10:]))
    return gap.join(number[at : at + 4] for at in range(0, size, 4))


def iban(r: random.Random) -> str:
    country, size = r.choice(
        [("DE", 22), ("GB", 22), ("FR", 27), ("NL", 18), ("ES", 24), ("CH", 21), ("NO", 15), ("PL", 28), ("MT", 31)]
    )
    body = "".join(r.choices("ABCDEFGH", k=4)) + chars(string.digits, size - 8)(r)
    if country in ("DE", "FR", "ES", "CH", "NO", "PL"):
        body = chars(string.digits, size - 4)(r)
    number = int("".join(str(int(char, 36)) for char in body + country + "00"))
    whole = f"{country}{98 - number % 97:02d}{body}"
    return r.choice([whole, " ".join(whole[at : at + 4] for at in range(0, size, 4)), whole.lower()])


def ssn(r: random.Random) -> str:
    return f"{r.randint(1, 665):03d}-{r.randint(1, 99):02d}-{r.randint(1, 9999):04d}"


def nino(r: random.Random) -> str:
    digits = chars(string.digits, 6)(r)
    return r.choice([f"AB{digits}C", f"JG {digits[:2]} {digits[2:4]} {digits[4:]} A"])


def spanish(r: random.Random) -> str:
    number = chars(string.digits, 8)(r)
    return number + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def brazilian(r: random.Random) -> str:
    body = chars(string.digits, 9)(r)
    number = next(f"{body}{n:02d}" for n in range(100) if cpf(f"{body}{n:02d}"))
    return f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"


def indian(r: random.Random) -> str:
    number = check_digit(str(r.randint(2, 9)) + chars(string.digits, 10)(r), aadhaar)
    return f"{number[:4]} {number[4:8]} {number[8:]}"


def phone(r: random.Random) -> str:
    d = chars(string.digits[2:], 12)(r)
    return r.choice([
        f"+1 {d[:3]} {d[3:6]} {d[6:10]}", f"({d[:3]}) {d[3:6]}-{d[6:10]}", f"{d[:3]}-{d[3:6]}-{d[6:10]}",
        f"{d[:3]}.{d[3:6]}.{d[6:10]}", f"+1{d[:10]}", f"1-{d[:3]}-{d[3:6]}-{d[6:10]}", f"+49 30 {d[:7]}",
        f"+49 (0)151 {d[:8]}", f"0151 {d[:8]}", f"030 {d[:7]}", f"030/{d[:7]}", f"+44 20 {d[:4]} {d[4:8]}",
        f"020 {d[:4]} {d[4:8]}", f"07{d[:9]}", f"07{d[:3]} {d[3:9]}", f"+33 6 {d[:2]} {d[2:4]} {d[4:6]} {d[6:8]}",
        f"06 {d[:2]} {d[2:4]} {d[4:6]} {d[6:8]}", f"+91 {d[:5]} {d[5:10]}", f"+86 138 {d[:4]} {d[4:8]}",
        f"+81 3-{d[:4]}-{d[4:8]}", f"+55 (11) 9{d[:4]}-{d[4:8]}", f"(11) 9{d[:4]}-{d[4:8]}",
        f"+61 4{d[:2]} {d[2:5]} {d[5:8]}", f"+34 6{d[:2]} {d[2:5]} {d[5:8]}", f"0049 30 {d[:7]}",
        f"+41 44 {d[:3]} {d[3:5]} {d[5:7]}", f"+31 6 {d[:8]}", f"+971 50 {d[:3]} {d[3:7]}", f"tel:+4930{d[:7]}",
    ]).removeprefix("tel:")  # fmt: skip


def address(r: random.Random) -> str:
    if r.random() < 0.6:
        return ".".join(str(r.choice([*range(11, 126), *range(128, 223)])) for _ in range(4))
    if r.random() < 0.5:
        return ":".join(["2001", "db8", *(f"{r.randint(4096, 65535):x}" for _ in range(6))])
    return f"2a02:{r.randint(4096, 65535):x}::{r.randint(4096, 65535):x}:{r.randint(1, 9)}"


def email(r: random.Random) -> str:
    name = chars(string.ascii_lowercase, 3, 9)
    return r.choice([
        f"{name(r)}.{name(r)}@{name(r)}.example.org", f"{name(r)}+{name(r)}@{name(r)}.co.uk",
        f"{name(r)}_{r.randint(1, 99)}@{name(r)}.de",
        f"{name(r).title()}@{name(r)}.example.com", f"{name(r)}%40{name(r)}.example.net",
    ])  # fmt: skip


PERSONAL: dict[str, Make] = {
    "card": card, "iban": iban, "email": email, "phone": phone, "ip": address, "us_ssn": ssn, "uk_nino": nino,
    "es_dni": spanish, "br_cpf": brazilian, "in_aadhaar": indian,
}  # fmt: skip


def planted(r: random.Random) -> Iterator[tuple[str, str, str]]:
    """(name, value, text that holds it) without end: each kind in turn, each in another place."""
    while True:
        for name, make in (*SECRETS.items(), *PERSONAL.items()):
            value = make(r)
            yield name, value, r.choice(PLACES)(value)
        for name, (before, make, after) in NAMED.items():
            value = make(r)
            yield name, value, r.choice((*WRAPS, lambda text: text))(before + value + after)


WRAPS: tuple[Callable[[str], str], ...] = (
    lambda text: json.dumps({"note": f"see\n{text}\nthere", "n": 1}),
    lambda text: json.dumps(json.dumps([text, "\n" + text])),
    lambda text: json.dumps({"url": text}).replace("/", "\\/"),
)
PLACES: tuple[Callable[[str], str], ...] = (
    lambda value: value,
    lambda value: f"Hello, it is {value}, thank you.",
    lambda value: f"first line\n{value}\nlast line",
    lambda value: f'say "{value}" ({value})',
    lambda value: f"<td>{value}</td>",
    lambda value: f"| customer | {value} | ok |",
    lambda value: f"key={value}&more=1",
    *(lambda value, wrap=wrap: wrap(value) for wrap in WRAPS),  # type: ignore[misc]
)


def harmless(r: random.Random) -> Iterator[str]:
    """Text that looks like something private and is not, without end."""
    n = r.randint
    while True:
        yield f"upgrade to version {n(1, 9)}.{n(0, 20)}.{n(0, 30)}.{n(0, 200)} now"
        yield f"Chrome/{n(80, 140)}.0.{n(1000, 6000)}.{n(1, 200)} Safari/537.36"
        yield f"package=={n(1, 9)}.{n(0, 9)}.{n(0, 9)}.{n(0, 9)}"
        yield f"2024-{n(1, 12):02d}-{n(1, 28):02d}T{n(0, 23):02d}:{n(0, 59):02d}:{n(0, 59):02d}.{n(0, 999999):06d}Z"
        yield f"at {n(0, 23):02d}:{n(0, 59):02d}:{n(0, 59):02d} on {n(1, 28):02d}.{n(1, 12):02d}.2024"
        yield f"{chars(HEX, 8)(r)}-{chars(HEX, 4)(r)}-4{chars(HEX, 3)(r)}-a{chars(HEX, 3)(r)}-{chars(HEX, 12)(r)}"
        yield f"commit {chars(HEX, 40)(r)}"
        yield f"sha256:{chars(HEX, 64)(r)}"
        yield f"trace {chars(HEX, 32)(r)} span {chars(HEX, 16)(r)}"
        yield f"took {n(1, 999999)} ms, {n(1, 10**6)} tokens, ${n(1, 999)}.{n(0, 99):02d}"
        yield f"score 0.{chars(string.digits, 16)(r)}"
        yield f"timestamp {1_700_000_000_000_000_000 + n(0, 10**17)}"
        yield f"order #W{n(10**6, 10**7 - 1)} and item {n(10**9, 10**10 - 1)}"
        yield f"loss: {n(1, 9)}.{n(1000, 9999)}e-0{n(1, 9)} lr: 3e-4 step {n(1, 10**5)}/{n(10**5, 10**6)}"
        yield f"shape ({n(1, 512)}, {n(1, 4096)}, {n(1, 64)}) dtype float32"
        yield "The task-management-system-for-people is a risk-assessment-framework."
        yield f"def password_reset(user_{n(1, 99)}): return user.token_count"
        yield f"max_tokens={n(100, 9999)}, total_tokens: {n(1, 99999)}, the token is good"
        yield f"listening on 127.0.0.1:{n(1024, 65535)} and 0.0.0.0:80"
        yield f"std::vector<int> abc::def; x[::2]; a ? b::c : d; line {n(1, 999)}"
        yield f"page {n(1, 300)}-{n(301, 600)}, vol. {n(1, 40)} ({n(1990, 2024)}), doi 10.{n(1000, 9999)}/a.7"
        yield f"ISBN 978-3-16-1484{n(10, 99)}-0, section {n(1, 9)}.{n(1, 9)}.{n(1, 9)}.{n(1, 9)}"
        yield f"call_{chars(ALNUM, 24)(r)} chatcmpl-{chars(ALNUM, 29)(r)} toolu_{chars(ALNUM, 22)(r)}"
        yield f"SELECT id FROM t WHERE id = {n(1, 10**6)} AND day > '2024-0{n(1, 9)}-1{n(0, 9)}'"
        yield f"api_key = os.environ['KEY_{n(1, 9)}']; password: ${{DB_PASSWORD}}; token=None"
        yield f"https://example.org/a/{n(1, 10**6)}?page={n(1, 99)}&sort=asc#s{n(1, 9)} and git@"
        yield f"[{n(1, 50000)}, {n(1, 50000)}, {n(1, 50000)}, {n(1, 50000)}, {n(1, 50000)}]"


def recall(per_kind: int, seed: int = 0, text: Callable[[str], str] | None = None) -> dict[str, list[int]]:
    """By name: how many were planted, and of how many nothing is left."""
    redact = text or Redactor(KEY).text
    found: dict[str, list[int]] = {}
    kinds = len(SECRETS) + len(PERSONAL) + len(NAMED)
    for at, (name, value, holder) in enumerate(planted(random.Random(seed))):
        if at >= per_kind * kinds:
            return found
        out = redact(holder)
        row = found.setdefault(name, [0, 0])
        row[0] += 1
        row[1] += not left(value, out)
    return found


@lru_cache(maxsize=1)  # many values are looked for in one long text
def _unescaped(out: str) -> str:
    return out.replace("\\/", "/")


def left(value: str, out: str) -> bool:
    """Whether a value, or a telling piece of it, can still be read."""
    plain = _unescaped(out)
    if value in plain:
        return True
    body = [line for line in value.split("\n") if len(line) > 16 and "-----" not in line]
    return any(line in plain for line in body) if "\n" in value else False


def precision(count: int, seed: int = 1, text: Callable[[str], str] | None = None) -> tuple[int, int, list[str]]:
    """Harmless texts, how many are unchanged, and examples of others."""
    redact = text or Redactor(KEY).text
    changed = []
    for at, given in enumerate(harmless(random.Random(seed))):
        if at >= count:
            return count, count - len(changed), [f"{text} -> {out}" for text, out in changed[:5]]
        out = redact(given)
        if out != given:
            changed.append((given, out))
    raise AssertionError("harmless texts never end")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def real_texts(folder: Path) -> list[str]:
    """The distinct texts in JSON files and JSON lines below a folder."""
    found: dict[str, None] = {}
    for path in sorted(folder.rglob("*.json*")):
        raw = path.read_text(encoding="utf-8", errors="replace")
        for piece in (raw, *raw.split("\n")):
            try:
                found.update(dict.fromkeys(strings(json.loads(piece))))
            except ValueError:
                continue
            if piece is raw:
                break
    return [encodable(text) for text in found]


def made_texts(count: int) -> list[str]:
    r = random.Random(2)
    source = harmless(r)
    return [" ".join(next(source) for _ in range(r.randint(1, 40))) for _ in range(count)]


class StdlibRules:
    """The rules of a redactor under Python's re: the same patterns, one after the other."""

    def __init__(self) -> None:
        self._patterns = [
            re.compile(rule.pattern.encode("latin-1")) for rules in KINDS.values() for rule in rules if rule.kind
        ]

    def text(self, text: str) -> str:
        data = text.encode()
        for pattern in self._patterns:
            for _ in pattern.finditer(data):
                pass
        return text


def speed(make: Callable[[], Callable[[str], Any]], texts: Sequence[str], seconds: float) -> float:
    """Characters per second, the best of runs that together take about `seconds`."""
    size, best, spent = sum(map(len, texts)), 0.0, 0.0
    while not best or spent < seconds:
        redact = make()
        started = time.perf_counter()
        for text in texts:
            redact(text)
        took = time.perf_counter() - started
        spent += took
        best = max(best, size / took)
    return best


def detect_secrets(folder: Path) -> Callable[[str], str] | None:
    """The peer's answer as a redaction: lines in which it sees a secret are emptied. None where it is not installed."""
    try:
        from detect_secrets.core.scan import scan_file  # type: ignore[import-not-found]
        from detect_secrets.settings import default_settings  # type: ignore[import-not-found]
    except ImportError:
        return None
    path = folder / "text.log"

    def redact(text: str) -> str:
        path.write_text(text, encoding="utf-8")
        with default_settings():
            hit = {secret.line_number for secret in scan_file(str(path))}
        return "\n".join("" if at in hit else line for at, line in enumerate(text.split("\n"), start=1))

    return redact


def adversarial() -> dict[str, str]:
    """Texts that make backtracking slow."""
    size = 200_000
    return {
        "a@a.a.a": "a@" + "a." * (size // 2),
        "digits": "1 " * (size // 2),
        "sk-": "sk-" * (size // 3),
        "BEGIN": "-----BEGIN PRIVATE KEY-----" * (size // 27),
        "password=": "password=" * (size // 9),
        "quotes": 'secret="' * (size // 8),
        "eyJ": "eyJaaaaaaaa" * (size // 11),
        "colons": "a:" * (size // 2),
        "backslashes": "\\" * size,
        "slashes": "://a:" * (size // 5),
    }


def run(quick: bool) -> dict[str, Any]:
    seconds = 1.0 if quick else 6.0
    per_kind, clean = (20, 5_000) if quick else (200, 50_000)
    found = recall(per_kind)
    names = {"secrets": [*SECRETS, *NAMED], "personal": list(PERSONAL)}
    total, unchanged, examples = precision(clean)
    result: dict[str, Any] = {
        "recall": {
            group: round(sum(found[n][1] for n in members) / sum(found[n][0] for n in members), 4)
            for group, members in names.items()
        },
        "missed": {name: f"{row[0] - row[1]} of {row[0]}" for name, row in found.items() if row[0] != row[1]},
        "precision": round(unchanged / total, 4),
        "changed": examples,
    }
    data = os.environ.get("TRACEMILL_DATA")
    for name in ("tau-bench", "pi", "who-and-when") if data else ("generated",):
        texts = real_texts(Path(str(data)) / name) if data else made_texts(500 if quick else 5_000)
        ours = speed(lambda: Redactor(KEY).text, texts, seconds)
        peer = speed(lambda: StdlibRules().text, texts[:: 20 if quick else 4], seconds)
        result.setdefault("chars_per_s", {})[name] = {"tracemill": round(ours), "stdlib_re": round(peer)}
    with TemporaryDirectory() as folder:
        peer_secrets = detect_secrets(Path(folder))
        if peer_secrets is not None:
            seen = recall(5 if quick else 20, text=peer_secrets)
            size, same, _ = precision(200 if quick else 1_000, text=peer_secrets)
            rows = [seen[name] for name in names["secrets"]]
            result["detect_secrets"] = {
                "recall_secrets": round(sum(row[1] for row in rows) / sum(row[0] for row in rows), 4),
                "precision": round(same / size, 4),
            }
    redactor = Redactor(KEY)
    result["adversarial_s"] = {
        name: _seconds(lambda text=text: redactor.text(text)) for name, text in adversarial().items()
    }
    return result


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return round(time.perf_counter() - started, 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller samples")
    parser.add_argument("--full", action="store_true", help="the runs of bench/RESULTS.md (default)")
    options = parser.parse_args()
    print(json.dumps(run(options.quick), indent=None))
