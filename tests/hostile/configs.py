"""Configs: YAML that unfolds, nests, names Python objects, or holds values that nothing takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from tests.hostile.cases import OF_CONFIG, Case, Place, refused, sparse
from tests.support.data.dataset_files import put


def _laughs(width: int, depth: int, key: str, kind: str = "list") -> str:
    lines = ["a0: &a0 [ha, ha]"] if kind == "list" else ["a0: &a0 {x: ha}"]
    for n in range(1, depth):
        names = [f"*a{n - 1}"] * width
        inner = (
            "[" + ", ".join(names) + "]"
            if kind == "list"
            else "{" + ", ".join(f"k{i}: {v}" for i, v in enumerate(names)) + "}"
        )
        lines.append(f"a{n}: &a{n} {inner}")
    return "\n".join([*lines, f"{key}: *a{depth - 1}"]) + "\n"


def _inside(key: str) -> str:
    """The same, all in the value of one setting."""
    anchors = ", ".join(f"&b{n} [" + ", ".join([f"*b{n - 1}"] * 9) + "]" for n in range(1, 9))
    section, _, name = key.partition(".")
    value = f"[&b0 [ha, ha], {anchors}]"
    return f"{section}: {{{name}: {value}}}\n" if name else f"{section}: {value}\n"


def _merges(depth: int) -> str:
    lines = ["m0: &m0 {a: 1}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, depth)]
    return "\n".join([*lines, f"data: {{<<: *m{depth - 1}}}"]) + "\n"


_TEXTS: dict[str, str] = {
    "laughs in the whole": _laughs(9, 9, "seed"),
    "laughs of mappings": _laughs(9, 9, "seed", "map"),
    "laughs in seed": _inside("seed"),
    "laughs in data.label_names": _inside("data.label_names"),
    "laughs in tune.methods": _inside("tune.methods"),
    "laughs in data.options": _inside("data.options"),
    "laughs in bench.variants": _inside("bench.variants"),
    "merge keys": _merges(9),
    "20,000 aliases of a long list": "a: &a [" + "x, " * 200 + "x]\nb: [" + "*a, " * 20_000 + "*a]\n",
    "a list in itself": "data: &a {options: {x: *a}}\n",
    "a mapping in itself": "seed: &a {x: *a}\n",
    "an alias of nothing": "seed: *nothing\n",
    "brackets 100,000 deep": "seed: " + "[" * 100_000,
    "braces 20,000 deep": "seed: " + "{a: " * 20_000 + "1" + "}" * 20_000,
    "dashes 20,000 deep": "seed:\n " + "- " * 20_000 + "1\n",
    "indents 2,000 deep": "".join(" " * n + f"k{n}:\n" for n in range(2000)),
    "a number of 100,000 digits": "seed: " + "9" * 100_000 + "\n",
    "minutes of minutes": "seed: 1" + ":59" * 30_000 + "\n",
    "bits": "seed: 0b" + "1" * 100_000 + "\n",
    "a float of 100,000 digits": "cluster: {k: 1." + "9" * 100_000 + "}\n",
    "infinity": "finetune: {learning_rate: .inf}\nsynthesize: {guidance: .nan}\n",
    "a date that is none": "seed: 2001-99-99\n",
    "a time that is none": "seed: 2001-01-01 99:99:99\n",
    "tag: python object": "seed: !!python/object/apply:os.system ['touch ran']\n",
    "tag: python name": "seed: !!python/name:os.system\n",
    "tag: python module": "seed: !!python/module:os\n",
    "tag: unknown": "seed: !foo bar\n",
    "tag: int of words": "seed: !!int words\n",
    "tag: empty int": "seed: !!int ''\n",
    "tag: bool of words": "seed: !!bool maybe\n",
    "tag: time of words": "seed: !!timestamp words\n",
    "tag: binary": "seed: !!binary '####'\n",
    "tag: set and pairs": "seed: !!set {a, b}\ndata: !!omap [a: 1]\n",
    "keys that are lists": "? [a, b]\n: 1\n? {a: b}\n: 2\n",
    "keys that are nothing": "~: 1\n1: 2\n2.5: 3\ntrue: 4\n",
    "keys twice": "seed: 1\nseed: 2\n",
    "NUL in out": 'out: "a\\0b"\n',
    "NUL in data.root": 'data: {root: "/tmp/a\\0b"}\n',
    "NUL in a model": 'models: {diffusion: "./a\\0b", clip: "/a\\0/b/c"}\n',
    "half of a pair in out": 'out: "a\\uD800b"\n',
    "half of a pair in root": 'data: {root: "/x\\uDFFF", format: folder}\n',
    "controls in a value": 'out: "a\\e[2J\\x07b"\nseed: "\\e]0;x\\a"\n',
    "controls in a key": '"a\\e[2Jb": 1\n',
    "5,000 characters of a name": "out: " + "a" * 5000 + "\ndata: {root: /" + "b" * 5000 + "}\n",
    "a prompt that formats": "synthesize: {prompt: '{label.__class__.__mro__} {attribute!r:>9999999}'}\n",
    "a prompt with a width": "synthesize: {prompt: '{label:>999999999} {attribute}'}\n",
    "300,000 settings": "".join(f"k{n}: 1\n" for n in range(60_000)),
    "a value of 900 KB": "seed: " + "a" * 900_000 + "\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a list": "- 1\n- 2\n",
    "a word": "nothing",
    "a web page": "<html><body>",
    "JSON": '{"seed": {"seed": {"seed": 1}}}',
    "tabs": "data:\n\troot: x\n",
    "directives": "%YAML 9.9\n%TAG ! tag:x,2000:\n---\nseed: 1\n",
    "everything of a wrong type": "data: 1\nmodels: []\ntune: x\nout: {}\nseed: null\n",
    "huge counts": "tune: {trials: 999999999999999999999}\nevaluate: {seeds: 4294967296}\n",
    "huge sizes": "synthesize: {per_group: 1000000000000000}\ncluster: {k: 1000000000000}\nfinetune: {steps: 1000000000000000000}\n",
    "a unit of one image of very many": "synthesize: {per_group: 1000000000000, unit_size: 1}\nembed: {unit_size: 1}\n",
    "columns that are no texts": "data: {format: [a], label_column: {a: b}, attribute_column: [[a]], options: [1]}\n",
    "negative counts": "cluster: {k: -1}\nresources: {workers: -5, threads: 0}\n",
}
_BYTES: dict[str, bytes] = {
    "not UTF-8": b"seed: \xff\xfe\n",
    "UTF-16": "seed: 1\n".encode("utf-16"),
    "NUL bytes": b"seed: 1\0\0\0\n",
    "a pickle": b"\x80\x04cposix\nsystem\n(S'touch ran'\ntR.",
    "controls": b"seed: \x1b[2J\x07\n",
}


def _text(text: str | bytes, place: Place) -> None:
    put(place.config, text)


def _pipe(place: Place) -> None:
    os.mkfifo(place.config)


def _linked(target: str, place: Place) -> None:
    place.config.symlink_to(target.format(outside=place.outside))


def _folder(place: Place) -> None:
    place.config.mkdir()


def _overrides(*words: str) -> tuple[str, ...]:
    return ("plan", "--preset", "demo", "--out", "{out}", *words)


def cases() -> Iterator[Case]:
    """All of this kind."""
    for name, text in (*_TEXTS.items(), *_BYTES.items()):
        yield Case("YAML", name, partial(_text, text), OF_CONFIG, codes=refused(0, 2, 3))
    files: dict[str, Callable[[Place], object]] = {
        "a pipe": _pipe, "a folder": _folder, "an endless device": partial(_linked, "/dev/zero"),
        "a random device": partial(_linked, "/dev/urandom"), "memory": partial(_linked, "/proc/self/mem"),
        "20 GB of zeros": lambda place: sparse(place.config, 20 << 30),
        "3 GB of a comment": lambda place: sparse(place.config, 3 << 30, b"# "),
        "missing": lambda place: None,
    }  # fmt: skip
    for name, make in files.items():
        yield Case("YAML", name, make, OF_CONFIG, codes=refused(2))
    values = {
        "laughs": _inside("seed").partition(": ")[2].strip(), "brackets": "[" * 100_000, "digits": "9" * 100_000,
        "an object": "!!python/object/apply:os.system ['touch ran']", "a date": "2001-99-99", "controls": "\x1b[2J\x07",
        "a list in itself": "&a [*a]",
    }  # fmt: skip
    for name, value in values.items():
        yield Case("YAML", f"option: {name}", lambda place: None, _overrides("--seed", value), codes=refused(2))
        yield Case(
            "YAML", f"options: {name}", lambda place: None, _overrides("--data.options", value), codes=refused(0, 2, 3)
        )
    yield Case(
        "YAML", "an option's name that steers", lambda place: None, _overrides("--a\x1b[2J.b", "1"), codes=refused(2)
    )
    yield Case(
        "YAML",
        "a key of 10,000 parts",
        lambda place: None,
        _overrides("--" + "a." * 10_000 + "b", "1"),
        codes=refused(2),
    )
    yield Case(
        "YAML",
        "an odd output folder",
        lambda place: None,
        ("plan", "--preset", "demo", "--out", "/dev/null/x"),
        codes=refused(2),
    )
    yield Case(
        "YAML",
        "a config written over a device",
        lambda place: None,
        ("init", "--preset", "demo", "--to", "/dev/full"),
        codes=refused(2),
    )
