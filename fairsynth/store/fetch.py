"""A download that goes on where it broke off."""

from __future__ import annotations

from typing import Any, BinaryIO

import obstore
from obstore.exceptions import BaseError, PreconditionError

# Bytes that are in memory at once.
_PIECE = 2**20


def fetch(store: Any, key: str, file: BinaryIO, got: dict[str, str]) -> None:
    """Append to the file what is still missing of an object; ``got`` keeps the ETag of what is in it between attempts.

    Raises obstore's errors; OSError if the disk refuses.
    """
    offset = file.tell()
    options: Any = {"range": {"offset": offset}, "if_match": got.get("etag")} if offset and got.get("etag") else None
    if options is None:
        file.seek(0)
        file.truncate()
    try:
        result = obstore.get(store, key, options=options)
        got["etag"] = str(result.meta["e_tag"] or "")
        for piece in result.stream(min_chunk_size=_PIECE):
            file.write(piece)
    except PreconditionError:  # it was written anew in between: from the start
        got.clear()
        raise BaseError("the object has changed meanwhile") from None
    if file.tell() != int(result.meta["size"]):
        got.clear()
        raise BaseError("the answer was cut off")
