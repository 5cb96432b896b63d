"""Secrets taken out of text that is kept: passwords and tokens in URLs, tokens by their form, values of secret variables."""

from __future__ import annotations

import os
import re

HIDDEN = "***"
_SECRET_NAME = r"(?:token|secret|password|passwd|pwd|credential|signature|sig|api[-_]?key|access[-_]?key|auth[-_]?key|secret[-_]?key)"  # noqa: S105
_VARIABLE = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
# A value of fewer characters stands in too much other text.
_SHORTEST = 8
# Each takes time in proportion to the text: none begins anew inside a word that it has looked through.
_PATTERNS = (
    # scheme://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^/\s@'\"]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # the same as a parameter of another URL: ...=http%3A%2F%2Fuser%3Apassword%40host, escaped whole or in part
    (re.compile(r"((?:%3A|:)(?:%2F|/){2})(?:(?!%2F)[^\s/@'\"&?#]){1,500}?(%40|@)", re.IGNORECASE), rf"\1{HIDDEN}\2"),
    # ?token=..., &X-Amz-Signature=..., and the same as words: --token ..., token: ...
    (re.compile(rf"([?&;][\w.-]*(?:{_SECRET_NAME}|key)=)[^&\s#'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(rf"({_SECRET_NAME}['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&]{{6,}}", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(rf"((?<![\w.-])--[\w.-]{{0,100}}?{_SECRET_NAME}\s+)[^\s'\"]{{6,}}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Hugging Face, GitHub, AWS, Google, OpenAI and the like
    (re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_|sk-|xox[abpr]-|AKIA|ASIA|AIza|ya29\.)[A-Za-z0-9_.-]{12,}"), HIDDEN),
)


def redacted(text: str) -> str:
    """The text without what looks like a secret, and without the values of environment variables named like one."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _VARIABLE.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    for pattern, put in _PATTERNS:
        text = pattern.sub(put, text)
    return text
