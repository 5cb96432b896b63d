"""A download that goes on where it broke off."""

from __future__ import annotations

from typing import Any, BinaryIO

import obstore
from obstore.exceptions import BaseError, PreconditionError

from fairsynth.store.attempts import refusal

# Bytes that are in memory at once, and lost if the answer breaks off.
_PIECE = 2**18


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
    except BaseError as error:
        # It was written anew in between: from the start. The client says it in two ways, for it goes on by itself, too.
        if isinstance(error, PreconditionError) or refusal(error).status == 412:
            got.clear()
            raise BaseError("the object has changed meanwhile") from None
        raise
    if file.tell() != int(result.meta["size"]):
        got.clear()
        raise BaseError("the answer was cut off")
