"""What a store's refusals mean, which of them pass, and how often one tries again."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from obstore.exceptions import BaseError

from fairsynth.errors import InfrastructureError

T = TypeVar("T")
# Seconds. A store that has never answered this process is not waited for as long as one that did: most likely its
# address is wrong.
FIRST_PATIENCE = 12.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 8.0
_RIGHTS = "give this machine the right to list, read, write and delete there: by a role, the environment or ~/.aws"
_AGAIN = "finished work is kept, and the same command goes on once the store answers"
# By the code in the answer's body, and by what obstore says: why it is final, and what to do about it.
_FINAL: tuple[tuple[str, str, str], ...] = (
    ("NoSuchBucket", "there is no such bucket", "make it, or correct the name: fairsynth makes no buckets"),
    ("ExpiredToken|TokenRefreshRequired", "the access keys have expired", "renew them, then give the same command"),
    ("InvalidAccessKeyId|InvalidToken", "the access key is not known there", _RIGHTS),
    ("SignatureDoesNotMatch", "the secret key does not fit the access key", _RIGHTS),
    ("RequestTimeTooSkewed", "this machine's clock is wrong", "set it (NTP), then give the same command"),
    (
        "AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocationConstraintException|redirect without LOCATION",
        "the bucket is in another region",
        "give its region: ?region=NAME at the end of the address, or AWS_REGION",
    ),
    (
        r"169\.254\.169\.254|169\.254\.170|metadata\.google|computeMetadata|Missing(SecretAccessKey|AccessKeyId)",
        "no access keys were found",
        _RIGHTS,
    ),
    (
        "illegal character|empty path segment",
        "there are objects whose names fairsynth does not make (empty parts, '..' or control characters)",
        "choose a prefix of its own with --out",
    ),
    ("InvalidCertificate|UnknownIssuer", "its certificate is not trusted", "set AWS_CA_BUNDLE to the certificates"),
    ("InvalidContentType|CorruptMessage", "it does not speak https", "correct the address, or add scheme=http to it"),
)
# What may pass, and most likely does not if the store has never answered.
_SILENT = (
    ("dns error|failed to lookup address", "its host name is not known", "correct the address, or the network"),
    ("ConnectionRefused", "nothing listens there", "correct the address, or give the same command when it is up again"),
)


class Refusal(NamedTuple):
    """``status``: HTTP's, 0 if there was no answer; ``why`` and ``do`` for people; ``final``: it would be said again."""

    status: int
    code: str
    why: str
    do: str
    final: bool


def refusal(error: BaseException) -> Refusal:
    """What an error of obstore's means. Only HTTP's status and the service's own code are taken from its text."""
    text = str(error)[:20_000]
    found = re.search(r"status code: (\d{3})", text)
    status = int(found[1]) if found else 0
    code = named[1] if (named := re.search(r"<Code>(\w{1,60})</Code>", text)) else ""
    said = f"the store answered {status} {code}".rstrip() if status else ""
    # Without an answer obstore tells the reason only in what it prints for programmers.
    host = asked[1] if (asked := re.search("https?://([^/ ]+)", text)) else ""
    where = f"{code} {host}" if status else text
    for pattern, why, do in _FINAL:
        if re.search(pattern, where):
            return Refusal(status, code, f"{why} ({said})" if said else why, do, True)
    if status in (401, 403):
        return Refusal(status, code, said, _RIGHTS, True)
    if status and status not in (408, 409, 425, 429) and status < 500:
        return Refusal(status, code, said, "see what this service says of that code; 'fairsynth doctor' tries it", True)
    if status == 501:
        return Refusal(status, code, said, "this service lacks what fairsynth needs; choose another", True)
    for pattern, why, do in _SILENT if not status else ():
        if re.search(pattern, text):
            return Refusal(0, "", why, do, False)
    return Refusal(status, code, said or "it did not answer, or the connection was cut", _AGAIN, False)


class Attempts:
    """Tries again, with growing and random pauses, what fails for a while; ``patience``: for how many seconds in all."""

    def __init__(self, patience: float) -> None:
        self.patience, self._answered = patience, False

    def of(self, doing: str, work: Callable[[], T], gained: Callable[[], int] | None = None) -> T:
        """What the work returns. ``doing`` is for messages: ``write s3://bucket/x``.

        ``gained``: bytes so far, of work that may take any time: the patience counts from the first failure since it had
        more than ever, and not from the start.
        Raises InfrastructureError: refused for good, or for longer than the patience. FileNotFoundError passes, unless it
        is the bucket that is not there.
        """
        since: float | None = None if gained else time.monotonic()
        attempts, most = 0, 0
        while True:
            attempts += 1
            try:
                result = work()
                self._answered = True
                return result
            except (BaseError, FileNotFoundError) as error:
                found = self._refusal(error)
                if gained and (now := gained()) > most:
                    most, since, attempts = now, None, 1
                since = time.monotonic() if since is None else since
                passed, pause = time.monotonic() - since, _pause(attempts)
                limit = self.patience if self._answered else min(self.patience, FIRST_PATIENCE)
                if found.final or passed + pause > limit:
                    often = "" if found.final else f", tried for {passed:.0f} s"
                    raise InfrastructureError(f"cannot {doing}: {found.why}{often}; {found.do}") from None
            time.sleep(pause)

    def _refusal(self, error: BaseException) -> Refusal:
        found = refusal(error)
        if isinstance(error, FileNotFoundError) and not found.code.startswith("NoSuchBucket"):
            self._answered = True
            raise error
        self._answered |= bool(found.status) and found.status < 500
        return found


def _pause(attempts: int) -> float:
    """Seconds: twice as long each time, and for each client another part of it."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempts)
    return random.uniform(longest / 2, longest)  # noqa: S311 - so that many workers do not ask at the same moment
