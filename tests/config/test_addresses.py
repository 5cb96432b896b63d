"""Addresses that may hold a secret are refused, and none of it is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config.addresses import check_address
from fairsynth.errors import DataError
from tests.hostile.addresses import ROOTS
from tests.hostile.cases import CANARY


@pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS)
def test_an_address_with_a_secret_is_refused_and_not_repeated(root: str) -> None:
    with pytest.raises(DataError) as caught:
        check_address(root)
    assert CANARY not in str(caught.value) and "AKIA1" not in str(caught.value)


@pytest.mark.parametrize(
    "root",
    [
        "s3://bucket/folder", "gs://bucket/a@b/c", "s3://b/x?region=eu-west-1&endpoint_override=http%3A%2F%2F127.0.0.1%3A9000",
        "data/birds", "/data/a:b", "~/x", "C:/data", "s3", "./s3:x", "images@2x",
    ],
)  # fmt: skip
def test_what_holds_none_passes(root: str) -> None:
    check_address(root)


def test_a_slash_too_few_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"begins with s3:/; an address has two slashes: s3://BUCKET/FOLDER"):
        check_address("s3:/bucket/x")
