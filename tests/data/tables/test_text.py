"""From bytes to text and rows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsynth.data.storage import Storage
from fairsynth.data.tables.text import csv_header, csv_lines, first_line, lines_of
from fairsynth.errors import DataError
from tests.support.data.dataset_files import csv_bytes, put


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))  # fmt: skip
def test_any_text_with_a_mark_comes_back(text: str, encoding: str) -> None:
    assert "".join(lines_of("x", io.BytesIO(text.encode(encoding)))) == text


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"\xfe\xff\xd8\0", b"\xff\xfe\0\0\xff\xff\xff\xff"])
def test_a_mark_that_is_not_kept_to(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x is not the UTF-(16|32) that its first bytes say; save it as UTF-8"):
        list(lines_of("x", io.BytesIO(content)))


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)
tables = st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=6))


@given(table=tables)
def test_rows_come_back(table: list[list[str]]) -> None:
    header = [f"column {i}" for i in range(len(table[0]))]
    content = csv_bytes([header, *table]).decode()
    assert [line.values for line in csv_lines("x", io.StringIO(content, newline=""))] == [header, *table]


def test_the_separator_is_that_of_the_header() -> None:
    def values(text: str) -> list[list[str]]:
        return [line.values for line in csv_lines("x", io.StringIO(text, newline=""))]

    assert values("a;b\n1,5;2\n") == [["a", "b"], ["1,5", "2"]]
    assert values('"a;b";c\n1;2\n') == [["a;b", "c"], ["1", "2"]]
    assert values("a,b;c,d\n1,2,3\n") == [["a", "b;c", "d"], ["1", "2", "3"]]
    assert values("a\nb;c\n") == [["a"], ["b;c"]]
    assert values("\n\na|b\n") == [["a", "b"]]


def test_lines_are_those_of_the_file() -> None:
    assert [line.number for line in csv_lines("x", ["sep=;\n", "a;b\n", "\n", "1;2\n"])] == [2, 4]
    with pytest.raises(DataError, match="x, line 3: not valid CSV"):
        list(csv_lines("x", ["a,b\n", "1,2\n", '"3"3,4\n']))


def test_only_the_start_is_read_for_the_header(tmp_path: Path) -> None:
    long = "x" * 70_000
    put(
        tmp_path / "t.csv",
        f"a,{long},c\n" + "1,2,3\n" * 100_000 + "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    )
    assert csv_header(Storage(str(tmp_path)), "t.csv") == ["a", long, "c"]
    assert len(first_line(Storage(str(tmp_path)), "t.csv")) < 200_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_signs_that_a_piece_cuts_are_whole(tmp_path: Path, encoding: str) -> None:
    header = ["\u0a0a\U0001f600" * 20_001, "b"]
    put(tmp_path / "t.csv", ",".join(header).encode(encoding))
    assert csv_header(Storage(str(tmp_path)), "t.csv") == header
    put(tmp_path / "u.csv", b"a" * 70_000 + b"\xff,b\n")
    with pytest.raises(DataError, match=r"u\.csv is not UTF-8 \(line 1\)"):
        csv_header(Storage(str(tmp_path)), "u.csv")
