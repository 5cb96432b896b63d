"""All hostile inputs, and the few of them that every run of the tests tries."""

from __future__ import annotations

from tests.hostile import addresses, archives, configs, environment, images, models, names, parquet_files, tables
from tests.hostile.cases import Case

KINDS = (names, tables, parquet_files, archives, images, models, configs, addresses, environment)


def all_cases() -> list[Case]:
    """Every case, by kind."""
    return [case for kind in KINDS for case in kind.cases()]
