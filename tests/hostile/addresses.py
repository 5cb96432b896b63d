"""Addresses that hold a secret: none of it may be shown or written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.hostile.cases import CANARY, Case, Place, refused
from tests.support.data.dataset_files import put

ROOTS = {
    "user and password": f"s3://AKIA1:{CANARY}@bucket/x",
    "password with a slash": f"s3://AKIA1:ab/{CANARY}@bucket/x",
    "password with an @": f"s3://AKIA1:a@{CANARY}@bucket/x",
    "Google": f"gs://user:{CANARY}@bucket/x",
    "a parameter": f"s3://b/x?secret_key={CANARY}",
    "two parameters": f"s3://b/x?region=x&access_key=AKIA1&secret_key={CANARY}",
    "an endpoint": f"s3://b/x?endpoint_override=http://u:{CANARY}@127.0.0.1:9",
    "an endpoint, escaped": f"s3://b/x?endpoint_override=http%3A%2F%2Fu%3A{CANARY}%40127.0.0.1%3A9",
    "an unknown parameter": f"s3://b/x?sas={CANARY}",
    "one slash": f"s3:/AKIA1:{CANARY}@b/x",
    "no slash": f"s3:AKIA1:{CANARY}@b/x",
    "three slashes": f"s3:///AKIA1:{CANARY}@b/x",
    "capitals": f"S3://AKIA1:{CANARY}@b/x",
    "a web address": f"https://user:{CANARY}@host/x",
    "a web address, signed": f"https://host/x?X-Amz-Signature={CANARY}",
    "a web address, one slash": f"https:/user:{CANARY}@host/x",
    "another scheme": f"hdfs://user:{CANARY}@host/x",
    "Azure": f"abfs://x@y/z?sig={CANARY}",
    "a mark": f"s3://b/x#{CANARY}:{CANARY}@",
    "blanks before it": f"  s3://AKIA1:{CANARY}@b/x",
    "file": f"file://user:{CANARY}@host/x",
}


def _config(root: str, place: Place) -> None:
    put(place.config, f"data: {{format: folder, root: {root!r}}}\n")


def cases() -> Iterator[Case]:
    """All of this kind."""
    ways = (
        ("inspect", "{root}"),
        ("init", "{root}", "--to", "{out}.yaml"),
        ("plan", "{config}", "--preset", "demo", "--out", "{out}"),
        ("plan", "--preset", "demo", "--data.format", "folder", "--data.root", "{root}", "--out", "{out}", "--json"),
        ("inspect", "{root}", "--json"),
    )
    for number, (name, root) in enumerate(ROOTS.items()):
        for way in (ways[number % len(ways)], ways[(number + 2) % len(ways)]):
            words = [root if word == "{root}" else word for word in way]
            shown = "a config" if "{config}" in way else way[0] + (" --json" if "--json" in way else "")
            yield Case("addresses", f"{name}, by {shown}", partial(_config, root), words, codes=refused(2, 3))
    broken = f"data:\n  root: s3://AKIA1:{CANARY}@b: x: y\n"
    yield Case("addresses", "in a config that is no YAML", partial(put_config, broken), ways[2], codes=refused(2))
    wrong = f"data: {{root: 's3://AKIA1:{CANARY}@b', formatt: x}}\nseed: 's3://b?token={CANARY}'\n"
    yield Case("addresses", "in a config with wrong keys", partial(put_config, wrong), ways[2], codes=refused(2))
    yield Case(
        "addresses",
        "as a number",
        lambda _: None,
        ("plan", "--preset", "demo", "--seed", f"https://u:{CANARY}@h"),
        codes=refused(2),
    )
    yield Case(
        "addresses",
        "as a table",
        lambda _: None,
        ("predict", f"s3://u:{CANARY}@b/x", "--run", "{out}"),
        codes=refused(2, 3),
    )


def put_config(text: str, place: Place) -> None:
    """A config of this text."""
    put(place.config, text)
