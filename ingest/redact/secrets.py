"""Secrets: keys and tokens of providers by their prefixes, and values by the names that stand before them."""

import re

from tracemill.ingest.redact.rules import Rule, Span

# By what may follow the prefix. Sources: the providers' own pages on key formats and secret scanning.
_WORD = (  # letters and digits
    r"(?:(?:sk|rk|pk)_(?:live|test)|whsec|gh[opusr]|hf|api_org|gsk|npm|dop_v1|doo_v1|dor_v1|r8|ntn|rubygems|lin_api|lin_oauth|"
    r"pcsk|sgp|duffel_(?:live|test)|tgp_v1|fw|shp(?:at|ca|pa|ss|tka)|pul|clojars|rdme|e2b|jina|sbp|dckr_pat|napi|"
    r"bkua|pnu|pnb|tfp|nfp|hvs|pscale_(?:tkn|pw|oauth)|cfat|cfut|vcp|vci|vca|vcr|vck|wandb_v1|ctx7sk|sk|ops)_"
)
_DASHED = (  # letters, digits, _ and -
    r"(?:github_pat_|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct|oas)-|pypi-|pplx-|tvly-|xai-|nvapi-|csk-|"
    r"sq0[a-z]{3}-|GOCSPX-|lsv2_(?:pt|sk)_|lf_(?:pk|sk)_|NR(?:AK|JS|II)-|sntry[su]_|gl(?:sa|c)_|figd_|PMAK-|CFPAT-|"
    r"tskey-[a-z]+-|CCIPAT_|sb_secret_|HRKU-|FLWSECK[_-]|AGE-SECRET-KEY-1|xox[abeoprsd]-|xapp-|dapi|ATATT3|ATBB|"
    r"ABSK|EAACEdEose0cBA|ya29\.|hv[sbr]\.|dp\.(?:pt|st|ct|sa|scim|audit)\.|v1\.0-|SG\.|sl\.(?:u\.)?[AB]|1//0|"
    r"dt0c01\.|p8e-|shippo_(?:live|test)_|access-(?:production|sandbox|development)-|"
    r"live_|fc-|BSA|secret_|bb_live_|pat-(?:na|eu)[0-9]-)"
)
_EXACT = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    r"AIza[A-Za-z0-9_-]{30,}",
    r"hf_[A-Za-z]{34}\b",
    r"LTAI[A-Za-z0-9]{16,24}\b",
    r"AKID[A-Za-z0-9]{32}\b",
    r"SK[0-9a-f]{32}\b",
    r"key-[0-9a-f]{32}\b",
    r"[0-9a-f]{32}-us[0-9]{1,2}\b",
    r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
    r"[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{30,}",
    r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{50,}",
    r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}",
    r"EAA[A-Za-z0-9]{60,}",
    r"EAAA[A-Za-z0-9_-]{56,}",
    r"AAAAAAAAAAAAAAAAAAAAA[A-Za-z0-9%]{30,}",
    r"AKCp[A-Za-z0-9]{60,}",
    r"EZ[AT]K[A-Za-z0-9]{50,}",
    r"(?:sdk|api|mob)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    r"tk-us-[A-Za-z0-9_-]{40,}",
    r"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}",
    r"FlyV1 fm[12][ar]?_[A-Za-z0-9+/=,_-]{60,}|fo1_[A-Za-z0-9_-]{30,}",
)
_EXACT_SIGNS = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{8}", r"AIza[A-Za-z0-9_-]{4}", r"\bhf_[A-Za-z]{8}",
    "LTAI", "AKID", r"\bSK[0-9a-f]{8}",
    r"\bkey-[0-9a-f]{8}", r"-us[0-9]", ":AA[A-Za-z0-9_-]{4}", r"[78]Q~", r"\.atlasv1\.", r"\bpat[A-Za-z0-9]{14}\.",
    r"\bEAA[A-Za-z0-9]", "AAAAAAAAAAAAAAAAAAAAA", "AKCp", "EZ[AT]K", "tk-us-", r"(?:sdk|api|mob)-[0-9a-f]{8}-",
    "xkeysib-", "FlyV1 ", "fo1_", r"\b[MNO][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.",
)  # fmt: skip
"""A cheap sign of each of the above."""
_NAME = (
    r"(?:pass(?:word|wd|wort|phrase|code)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|client[_-]?secret|api[_-]?key|apikey|"
    r"private[_-]?key|(?:access|auth|refresh|session|security|id|api|bearer|csrf|xsrf)[_-]?token|authorization|"
    r"(?:account|shared[_-]?access|encryption|signing|master|webhook|service)[_-]?key|shared[_-]?secret|"
    r"connection[_-]?string|credentials?|"
    r"(?:db|database|user|admin|root|smtp|mail|ftp|ssh|ldap|redis|mysql|postgres|pg|proxy)_pass)"
)
_LOOSE = r"(?:key|token|secret|auth|signature|credential|cookie|session|sid)s?"
_VALUE = (  # in quotes up to the closing one, whatever level of JSON they stand in; bare up to a blank or a bracket
    r"(?:\"((?:[^\"\\\r\n]|\\[^\r\n]){4,})|\\+\"((?:[^\"\\\r\n]|\\+[^\"\\\r\n]){4,})|"
    r"'((?:[^'\\\r\n]|\\[^\r\n]){4,})|\\+'((?:[^'\\\r\n]|\\+[^'\\\r\n]){4,})|"
    r"([^\s\"'\\,;&<>{}()\[\]]{4,}))"
)
_IS = r"(?:\\*[\"'])?\s{0,8}(?::=|=>|[:=])\s{0,8}"
_SCHEME = r"(?:bearer|basic|token|apikey|digest|negotiate|aws4-hmac-sha256)"

_NO_VALUE = re.compile(
    rb"(?:none|null|nil|true|false|undefined|required|optional|string|str|bytes|empty|missing|invalid|expired|unknown|"
    rb"redacted|hidden|masked|removed|changed|password|secret|token|self|this|[*.x#-]+|"
    rb"(?:os|process|config|settings|args|self|env|request|kwargs)\.[\w.]+|getenv.*|\$?\{+\w*\}+|\$(?-i:[A-Z_][A-Z0-9_]*|[a-z_]+)|%\w+%|\{\{.*|"
    rb"await|async|args|new|function|return|[a-z_]+(?:\.[a-z_]+)+[`)!?]*|[\w-]*\.{3}\W*|"
    rb"your[_-].*|<.*)",
    re.IGNORECASE | re.DOTALL,
)
_VARIABLE = re.compile(rb"\$?\{+[\w.]*\}+|\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+)|%\w+%|<[\w -]*>|\*+|\.{3}")
_SCHEME_ONLY = re.compile(rb"(?:bearer|basic|token|apikey|digest|negotiate|aws4-hmac-sha256)(?:\s|$)", re.IGNORECASE)
_NO_NAME = re.compile(
    rb"(?:cache|partition|primary|foreign|sort|public|idempotency|dedup\w*|routing|object|page|next|prev\w*|start|"
    rb"stop|continuation|pagination|cursor|eos|bos|pad|unk|sep|cls|mask|special|hot|group|row|index|unique|message|"
    rb"shard|translation|case|user|task|template|prompt|item|trace|span)[_.-]?(?:key|token|session)s?$",
    re.IGNORECASE,
)
_NAME_BEFORE = re.compile(rb"([\w.-]{1,80})(?:\\*[\"'])?\s*(?::=|=>|[:=])\s*(?:\\*[\"'])?$")


def _named(data: bytes, start: int, end: int) -> Span | None:
    """A value after a telling name; words that stand for "no value", references and shell's PWD are none."""
    value = data[start : min(end, start + 200)]
    if _NO_VALUE.fullmatch(value) or value.startswith(b"[") or _SCHEME_ONLY.match(value):
        return None
    before = data[max(0, start - 24) : start].lower().rstrip(b"\"'\\ :=>")
    return None if before.endswith(b"pwd") and value[:1] in b"/~" else (start, end)


def _loosely_named(data: bytes, start: int, end: int) -> Span | None:
    """A value after a name that may be a secret's: only what looks drawn at random."""
    name = _NAME_BEFORE.search(data[max(0, start - 120) : start])
    if name is None or _NO_NAME.search(name[1]):
        return None
    return (start, end) if looks_random(data[start : min(end, start + 500)]) else None


LEAST_RANDOM = 16
"""No shorter value looks drawn at random."""


def looks_random(value: bytes) -> bool:
    """Letters and digits mixed, as in a key: not a word, not a number, not a path, not a date."""
    if len(value) < LEAST_RANDOM or not value.isascii() or b"/" in value[:1] or b"://" in value:
        return False
    numbers = sum(48 <= byte <= 57 for byte in value)
    letters = sum(byte | 0x20 in range(97, 123) for byte in value)
    runs = re.findall(rb"[A-Za-z]+|[0-9]+", value)
    return (
        numbers >= 2 and letters >= 4 and len(runs) * 8 >= min(len(value), 64) and numbers + letters >= len(value) * 0.8
    )


def _valued(data: bytes, start: int, end: int) -> Span | None:
    """Anything but a variable that stands for a value."""
    return None if _VARIABLE.fullmatch(data[start : min(end, start + 200)]) else (start, end)


def _credential(data: bytes, start: int, end: int) -> Span | None:
    """What follows "basic" or "bearer" and is no word."""
    value = data[start : min(end, start + 200)]
    word = value.rstrip(b".,").isalpha() and (value.islower() or value.istitle() or value.isupper())
    return None if word and len(value) < 24 else (start, end)


def _given(data: bytes, start: int, end: int) -> Span | None:
    """A password on a command line; a word alone is what a manual says there."""
    value = data[start : min(end, start + 200)]
    return None if value.isalpha() or value.startswith(b"-") else _named(data, start, end)


def _with_digit(data: bytes, start: int, end: int) -> Span | None:
    """Keys hold digits, or where chance left these out, cases mixed; `sk-learn-style-names` and CamelCase do not."""
    tail = data[start + 3 : min(end, start + 200)]
    if any(48 <= byte <= 57 for byte in tail):
        return start, end
    letters = sum(map(len, runs := re.findall(rb"[A-Z]+|[a-z]+", tail)))
    return (start, end) if letters >= 16 and len(runs) * 5 >= letters * 2 else None


RULES = (
    Rule(
        kind="SECRET",
        pattern=r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:(?s:.)*?"
        r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|(?s:.)*)",
        sign=r"PRIVATE KEY",
    ),
    Rule(kind="SECRET", pattern=r"PuTTY-User-Key-File-[0-9](?s:.)*", sign=r"PuTTY-User-Key-File-[0-9]"),
    Rule(kind="SECRET", pattern=r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}"),
    Rule(kind="SECRET", pattern=r"\b((?:sk|pk|rk)-[A-Za-z0-9_-]{16,})", check=_with_digit),
    Rule(
        kind="SECRET",
        pattern=rf"\b({_WORD}[A-Za-z0-9_]{{18,}})",
        sign=rf"{_WORD}[A-Za-z0-9_]{{4}}",
        check=_with_digit,
    ),
    Rule(
        kind="SECRET",
        pattern=rf"\b({_DASHED}[A-Za-z0-9_.-]{{16,}})",
        sign=rf"\b{_DASHED}[A-Za-z0-9_.-]{{4}}",
        check=_with_digit,
    ),
    Rule(kind="SECRET", pattern=rf"\b({'|'.join(_EXACT)})", sign="|".join(_EXACT_SIGNS)),
    Rule(kind="SECRET", pattern=r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/_-]{20,})"),
    Rule(kind="SECRET", pattern=r"discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/([0-9]{15,}/[A-Za-z0-9_-]{40,})"),
    Rule(kind="SECRET", pattern=r"webhook\.office\.com/(webhookb2/[A-Za-z0-9@/_-]{40,})"),
    Rule(kind="SECRET", pattern=r"://[^\s/@:\"'<>]*(?::|%3[Aa])([^\s/@\"'<>]+)@", check=_valued),
    Rule(kind="SECRET", pattern=r"(?i)\b(?:bearer|basic)\s{1,8}([A-Za-z0-9._~+/=-]{12,})", check=_credential),
    Rule(
        kind="SECRET",
        pattern=r"(?i)[?&;](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|sig|"
        r"signature|token|key|auth|code|secret|password|jwt|ticket|awsaccesskeyid|googleaccessid)=([^&#\s\"'<>\\]{6,})",
        check=_valued,
    ),
    Rule(
        kind="SECRET",
        pattern=rf"(?i)(?:{_NAME}|x-[a-z-]{{1,40}}-(?:key|token|secret)){_IS}(?:{_SCHEME}\s{{1,8}})?{_VALUE}",
        check=_named,
    ),
    Rule(  # as commands are given it
        kind="SECRET",
        pattern=rf"(?i)\s--(?:{_NAME}|pass)\s{{1,8}}{_VALUE}",
        sign=r"(?i)\s--[a-z-]{0,20}(?:pass|pwd|secret|key|token|authorization|credential|connection)",
        check=_given,
    ),
    Rule(
        kind="SECRET",
        pattern=r"\bcurl\s[^\r\n|;]{0,200}?(?:-u|--user)\s{0,4}(?:\\*[\"'])?[^\s:\"'\\]{1,80}:([^\s\"'\\]{3,})",
        sign=r"\bcurl\s",
        check=_valued,
    ),
    Rule(
        kind="SECRET",
        pattern=r"\b(?:mysql|mysqldump|mysqladmin|mariadb)\s(?:[^\r\n|;]{0,200}?\s)?-p(?:\\*[\"'])?([^\s\"'\\]{4,})",
        sign=r"\b(?:mysql|mysqldump|mysqladmin|mariadb)\s",
        check=_given,
    ),
    Rule(
        kind="SECRET",
        pattern=r"(?i)\b(?:set-)?cookie(?:\\*[\"'])?\s{0,8}[:=]\s{0,8}(?:\\*[\"'])?([^\r\n\"'\\{}\[\]]{12,})",
    ),
    Rule(kind="SECRET", pattern=rf"(?i){_LOOSE}{_IS}{_VALUE}", check=_loosely_named),
)

TELLING = re.compile(rf"{_NAME}$|(?:^|[^a-z])(?:cookie|set-cookie|cvv2?|cvc2?|pin(?:[_-]?code)?)$", re.IGNORECASE)
"""Names of JSON members and attributes whose value goes, whatever it looks like."""
SCHEME = re.compile(rf"{_SCHEME}\s+", re.IGNORECASE)
"""How a value of an Authorization header begins."""
_LOOSE_NAME = re.compile(rf"{_LOOSE}$", re.IGNORECASE)


def loosely_telling(name: str) -> bool:
    """Whether a name's value goes where it looks drawn at random."""
    return _LOOSE_NAME.search(name) is not None and _NO_NAME.search(name.encode()) is None


def is_no_value(text: str) -> bool:
    """Words that stand for a value: None, required, ${API_KEY}, …"""
    return _NO_VALUE.fullmatch(text[:200].encode()) is not None
