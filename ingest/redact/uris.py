"""URIs of log sources, which may hold what lets anyone read them: signed URLs and passwords."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_SIGNING = frozenset((
    "signature", "sig", "se", "sp", "sv", "st", "sr", "skoid", "sktid", "skt", "ske", "sks", "skv", "spr", "sdd",
    "expires", "key-pair-id", "policy", "awsaccesskeyid", "googleaccessid", "token", "access_token", "jwt", "auth",
    "key", "api_key", "apikey", "code",
))  # fmt: skip
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-ms-", "x-oss-")


def unsigned(uri: str) -> str:
    """The URI without the parameters that sign it, which are others each time the same object is named."""
    if "://" not in uri or "?" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return uri
    kept = [
        (name, value)
        for name, value in query
        if name.lower() not in _SIGNING and not name.lower().startswith(_SIGNING_PREFIXES)
    ]
    return uri if len(kept) == len(query) else urlunsplit(parts._replace(query=urlencode(kept)))
