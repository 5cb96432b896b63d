"""What people read stays readable, however many labels, groups or notes there are and however long a value is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import DataConfig, RunConfig
from fairsynth.console import complain
from fairsynth.data.metadata import Entry
from fairsynth.data.severity import at_severity
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import enumerated, legible, plain, shortened
from fairsynth.groups import Group
from fairsynth.pipeline import _tell
from fairsynth.preflight import check_routes
from fairsynth.stages.ingest.decide import check_groups
from fairsynth.stages.stage import Done
from fairsynth.stages.synthesize.not_made import NotMade, alike
from fairsynth.stages.synthesize.routing import overrides
from tests.support.data.dataset_files import SPLITS

LABELS = [f"label{i:03d}" for i in range(500)]
SOME = ", ".join(LABELS[:10]) + " and 490 more"


def test_ten_are_named_and_the_others_counted() -> None:
    assert enumerated("abc") == "a, b, c" and enumerated([]) == ""
    assert enumerated(range(10), " = ") == " = ".join(map(str, range(10)))
    assert enumerated((str(i) for i in range(11)), " = ").endswith("8 = 9 and 1 more")
    assert enumerated(["a\x1b[2J\n"]) == "a?[2J?"


def test_of_a_long_line_both_ends_stay() -> None:
    assert shortened("x" * 2000) == "x" * 2000
    assert shortened("begin" + "x" * 200_000 + "end").startswith("begin")
    assert shortened("begin" + "x" * 200_000 + "end").endswith("end")
    assert len(shortened("x" * 2001)) < 2010


def test_a_complaint_about_a_long_value_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    complain(f"label {'A' * 200_000!r} is no label; choose another")
    _, line = capsys.readouterr()
    assert len(line) < 2100 and line.startswith("fairsynth: label 'AAA") and line.endswith("choose another\n")


def of_labels(n: int, unseen: str = "") -> list[Entry]:
    """An image of each of ``n`` labels in every split; ``unseen`` is in the test split alone."""
    entries = [Entry(f"{s}{i}{a}", s, LABELS[i], a) for s in SPLITS for i in range(n) for a in "xy"]
    return entries + ([Entry("one", "test", unseen, "x")] if unseen else [])


def test_a_dataset_of_many_labels_is_refused_in_a_short_line() -> None:
    with pytest.raises(DataError) as unseen:
        check_groups(of_labels(500, "new"), DataConfig())
    way_out = "give it training images, or take it out of the other splits"
    assert str(unseen.value) == f"label 'new' occurs only outside the training split; training has: {SOME}; {way_out}"
    with pytest.raises(DataError, match=f"has the labels {SOME} and the attributes x, y$"):
        at_severity(of_labels(500), 0.9, 0, {"new": "x"})


def test_so_are_routes_for_groups_that_there_are_not() -> None:
    groups = [Group(label, "x") for label in LABELS]
    config = RunConfig(synthesize={"routes": {"new/x": "prompt"}})
    some = ", ".join(f"{label}/x" for label in LABELS[:10]) + " and 490 more"
    with pytest.raises(ConfigError, match=f"the groups are: {some}$"):
        check_routes(config, LABELS, "x")
    with pytest.raises(ValueError, match=f"the groups are: {some}$"):
        overrides(config.synthesize, {group: ("prompt",) for group in groups})


def test_groups_that_are_made_alike_name_some_of_the_others() -> None:
    groups = [Group(label, "x") for label in LABELS]
    found = alike({group: NotMade("trial", "") for group in groups[:-1]}, dict.fromkeys(groups, 9), groups)
    assert found[groups[-1]].why.endswith("(label009, x) and 489 more cannot be shown")


def test_of_many_notes_the_terminal_shows_some(tmp_path: Path) -> None:
    said: list[str] = []
    artifact = Artifact(tmp_path, Identity("ingest", 1, {}, {}))
    _tell(said.append, "ingest", Done(artifact, "500 images", True, tuple(LABELS)), 1.0)
    assert len(said) == 22 and said[20] == "           note: label019"
    assert said[-1] == f"           and 480 more notes: {artifact.path}/artifact.json"
    said.clear()
    _tell(said.append, "ingest", Done(artifact, "500 images", True, tuple(LABELS[:20])), 1.0)
    assert len(said) == 21


def test_bare_addresses_are_shown_and_become_no_links() -> None:
    from markdown_it import MarkdownIt

    text = "https://x.example a@b.example WWW.x.example ftp://c a:b"
    assert plain(text) == r"https\://x.example a\@b.example WWW\.x.example ftp\://c a:b"
    assert MarkdownIt("commonmark").render(plain(text)) == f"<p>{text}</p>\n"


def test_text_for_a_page_has_lines_and_joiners_and_nothing_that_steers() -> None:
    assert legible("a\x1b[2J\x07b\u202egnp\u2066\r\nc\rd\te\u200df\u3000") == "a?[2J?b?gnp?\nc\nd\te\u200df\u3000"
