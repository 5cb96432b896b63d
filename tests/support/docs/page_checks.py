"""What is wrong with a page for people: commands, options, paths and names that this checkout has not, links that lead nowhere.

Each check returns what it found: a text that is empty, or a list that is, where nothing is wrong.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import yaml
from cyclopts import CycloptsError

from fairsynth.cli import app
from fairsynth.commands.bench.grid import cells
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config, parse_overrides
from fairsynth.errors import ConfigError
from tests.support.docs.pages import (
    ROOT,
    anchors,
    blocks,
    commands,
    defined,
    forwarded,
    inline_codes,
    links,
    named_in_files,
    options,
    script_options,
    tables,
    tree_entries,
    words_of,
)

FAIRSYNTH, PYTHON = ("fairsynth", ".venv/bin/fairsynth"), ("python", ".venv/bin/python")
TOP = ("fairsynth", "jobs", "deploy", "benchmarks", "tests", "docs", "examples", ".ci")
LANGUAGES = ("sh", "python", "yaml", "text", "diff")
# What stands for any option.
ANY_OPTION = "--section.key VALUE"
SECTIONS = "|".join(name for name, field in RunConfig.model_fields.items() if hasattr(field.annotation, "model_fields"))


def page_problems(page: str, text: str, pages: Mapping[str, str]) -> list[str]:
    """All that is not true of this checkout."""
    inline = [problem for code in inline_codes(text) if (problem := inline_problem(code))]
    return [*block_problems(text), *inline, *name_problems(text), *link_problems(page, text, pages)]


def fairsynth_problem(words: Sequence[str]) -> str:
    """What the command line refuses before it looks at any file."""
    try:
        called, bound, *_ = app.parse_args(list(words), exit_on_error=False, print_error=False)
        given = bound.arguments
        tokens, preset = list(given.get("tokens", ())), given.get("preset")
        if called.__name__ == "inspect":
            load_config(None, preset, {"data.root": "".join(tokens[:1]), **parse_overrides(tokens[1:])})
        elif called.__name__ in ("completion", "status", "logs", "gc"):
            return ""  # the folder is the reader's
        elif called.__name__ in ("init", "doctor"):  # of a dataset's folder or a config that the reader has
            load_config(None, preset, parse_overrides(tokens[bool(tokens) and not tokens[0].startswith("-") :]))
        elif called.__name__ == "predict":
            images = list(given.get("images", ()))
            load_config(None, None, parse_overrides(images[1:]))
            return "" if images and given.get("run") else "predict takes images and a run"
        elif given.get("format") in ("kohya", "onnx"):
            form = given["format"]
            return "" if len(tokens) == 1 and not preset else f"{form} takes the folder of a run, and nothing else"
        else:
            config = _config_of(tokens, preset)
            for cell in cells(config) if called.__name__ == "bench" else ():
                cell.config(config)
    except (CycloptsError, ConfigError) as error:
        return " ".join(str(error).split())
    return ""


def _config_of(tokens: list[str], preset: str | None) -> RunConfig:
    """A YAML file stands for one that the reader has; without any file, preset and option there is nothing to run."""
    file = "" if not tokens or tokens[0].startswith("-") else tokens.pop(0)
    if not (file or preset or tokens) or (file and not file.endswith(".yaml")):
        raise ConfigError(f"nothing to run, or no config: {file}")
    return load_config(None, preset, parse_overrides(tokens))


def python_problem(words: Sequence[str]) -> str:
    """The script or module is there, does something when it is run, and has the options; what it needs is given."""
    as_module = words[0] == "-m"
    module, *arguments = words[as_module:]
    path = ROOT / (f"{module.replace('.', '/')}.py" if as_module else module)
    if as_module and not path.is_file():
        path = path.with_suffix("") / "__main__.py"
    if not path.is_file():
        return f"{module} is not there"
    source = path.read_text("utf-8")
    if "__main__" not in source:
        return f"{module} does nothing when it is run"
    if command := forwarded(source):
        return fairsynth_problem([command, *arguments])
    known, used = script_options(source), {word for word in arguments if word.startswith("--")}
    wrong = sorted({*used - known.keys(), *(name for name, must in known.items() if must and name not in used)})
    return f"{module}: unknown or missing: {', '.join(wrong)}" if wrong else ""


def make_problem(words: Sequence[str]) -> str:
    """Targets and variables are in the Makefile; ARGS goes to the demo's run."""
    text = (ROOT / "Makefile").read_text("utf-8")
    for word in words:
        name, is_variable, value = word.partition("=")
        if name == "ARGS" and (problem := fairsynth_problem(["run", "--preset", "demo", *words_of(value)])):
            return problem
        if not re.search(rf"^{re.escape(name)} *{'[?]=' if is_variable else ':'}", text, re.MULTILINE):
            return f"the Makefile has no {name}"
    return ""


def ray_problem(words: Sequence[str]) -> str:
    """What a job runs is a command of ours; a cluster's file is there; of a job that runs, something is asked."""
    if words[:1] == ["job"] and words[1] in ("status", "stop", "logs", "list"):
        return ""
    if "--" in words:
        return command_problem(words[words.index("--") + 1 :])
    return "" if words[0] in ("up", "down") and (ROOT / words[1]).is_file() else f"ray {' '.join(words)}"


def elsewhere_problem(words: Sequence[str]) -> str:
    """A command of somebody else's program that is given files of ours: they are there."""
    missing = [word for word in words if word.startswith("deploy/") and not (ROOT / word).is_file()]
    return f"{', '.join(missing)} is not there" if missing else ""


def pip_problem(words: Sequence[str]) -> str:
    """What is installed besides is one of the extras, or a package of theirs."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    known = {f"fairsynth[{name}]" for name in extras}.union(*extras.values())
    return "" if words[0] == "install" and {*words[1:]} <= known else f"pip {' '.join(words)}"


def export_problem(words: Sequence[str]) -> str:
    """A variable with its value, and a comment behind it."""
    return "" if words and re.match("[A-Z_]+=.", words[0]) else f"export {' '.join(words)}"


def command_problem(words: Sequence[str]) -> str:
    """What is wrong with a command of a shell."""
    program, *rest = words
    programs: dict[str, Callable[[Sequence[str]], str]] = {
        **dict.fromkeys(FAIRSYNTH, fairsynth_problem),
        **dict.fromkeys(PYTHON, python_problem),
        **dict.fromkeys(("docker", "kubectl", "sky", "anyscale"), elsewhere_problem),
        **{"make": make_problem, "ray": ray_problem, "pip": pip_problem, "export": export_problem},
    }
    return programs[program](rest) if program in programs else f"nobody knows {program}"


def key_problem(key: str) -> str:
    """A setting is one that the config has."""
    try:
        load_config(None, "demo", {key: None})
    except ConfigError as error:
        return str(error) if "unknown key" in str(error) else ""
    return ""


def option_problem(words: Sequence[str]) -> str:
    """Settings exist and, where values are given, fit the demo together; other options are those of a program of ours."""
    given = options(words)
    settings, others = [o for o in given if "." in o[0]], [o for o in given if "." not in o[0]]
    wrong = [problem for name, *_ in settings if (problem := key_problem(name[2:].partition("=")[0]))]
    wrong += [f"no program has {name}" for name, *_ in others if name not in own_options()]
    try:
        load_config(None, "demo", parse_overrides([word for o in settings if len(o) == 2 for word in o]))
    except ConfigError as error:
        wrong.append(str(error))
    return "; ".join(wrong)


def own_options() -> set[str]:
    """Options without a section: of the command line, of jobs and of benchmarks; and Ray's that says where code is."""
    found = {"--working-dir", "--runtime-env"}
    for command in (name for name in app if not name.startswith("-")):
        own = app[command].assemble_argument_collection()
        found |= {name for argument in own if argument.show for name in argument.names}
    for path in (path for folder in ("benchmarks", "jobs") for path in (ROOT / folder).glob("*.py")):
        found |= script_options(path.read_text("utf-8")).keys()
    return found


def path_problem(code: str) -> str:
    """A module, a path below one of our folders, or the bare name of a source file."""
    if re.fullmatch(r"(?:fairsynth|jobs|benchmarks|tests)(?:\.\w+)+", code) and not code.endswith(".py"):
        path = ROOT / code.replace(".", "/")
        return "" if path.is_dir() or path.with_suffix(".py").is_file() else f"no module {code}"
    if re.fullmatch(r"[\w.-]+/[\w*/.-]*", code) and code.split("/")[0] in TOP:
        return "" if any(ROOT.glob(code.strip("/"))) else f"no path {code}"
    if re.fullmatch(r"\w+\.py", code):
        return "" if any(next((ROOT / folder).rglob(code), None) for folder in TOP) else f"no file {code}"
    return ""


def inline_problem(code: str) -> str:
    """What is wrong with inline code, whatever it names."""
    words = words_of(code)
    if len(words) > 1 and words[0] in (*FAIRSYNTH, *PYTHON, "make"):
        # A stage or command that is named, not given.
        if words[0] in FAIRSYNTH and len(words) == 2 and words[1][0] != "-":
            return "" if words[1] in list(app) else f"no command {words[1]}"
        return command_problem(words)
    if code.startswith("--"):
        return "" if code == ANY_OPTION else option_problem(words)
    if re.fullmatch(rf"(?:{SECTIONS})\.[a-z][\w.]*", code) and not code.endswith((".html", ".json", ".py", ".yaml")):
        return key_problem(code)
    return path_problem(code)


def name_problems(text: str) -> list[str]:
    """After a file, set off by a comma, stands a name that is defined in it."""
    found = [(ROOT / path, name) for path, name in named_in_files(text)]
    return [
        f"{path.name} has no {name}" for path, name in found if path.exists() and name not in defined(path.read_text())
    ]


def link_problems(page: str, text: str, pages: Mapping[str, str]) -> list[str]:
    """Links that lead to no file of the project, or to no heading of a page."""
    wrong = []
    for link in links(text):
        file, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / file if file else ROOT / page).resolve()
        name = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""
        if not re.match("[a-z]+:", link) and (
            not name or not target.exists() or (anchor and anchor not in anchors(pages.get(name, "")))
        ):
            wrong.append(f"{page}: {link} leads nowhere")
    return wrong


def block_problems(text: str) -> list[str]:
    """What is wrong with fenced blocks: every one says its language."""
    found = blocks(text)
    wrong = [f"a block of {language or 'no language'}" for language, _ in found if language not in LANGUAGES]
    for language, code in found:
        if language == "sh":
            wrong += [problem for words in commands(code) if (problem := command_problem(words))]
        elif language in ("python", "yaml"):
            wrong += _refused(code, language)
        elif language == "diff":
            wrong += _not_applied(code)
        elif code.startswith("fairsynth/"):
            wrong += [f"no path {entry}" for entry in tree_entries(code) if not (ROOT / entry).exists()]
    return wrong


def _refused(code: str, language: str) -> list[str]:
    try:
        compile(code, "a page", "exec") if language == "python" else load_config(None, None, yaml.safe_load(code))
    except (SyntaxError, ConfigError) as error:
        return [str(error)]
    return []


def _not_applied(patch: str) -> list[str]:
    """What keeps git from applying a patch to this checkout."""
    command = ["git", "apply", "--check", "-"]
    done = subprocess.run(command, cwd=ROOT, input=patch, capture_output=True, text=True, check=False)
    return [" ".join(done.stderr.split())] if done.returncode else []


def table_problems(text: str) -> list[str]:
    """Rows that have not as many cells as their table's head."""
    return [" | ".join(row) for table in tables(text) for row in table if len(row) != len(table[0])]


def figures_told_twice(pages: Mapping[str, str]) -> list[str]:
    """Figures of a row (two cells of them or more) that stand in more than one table."""
    each = [{tuple(row[1:]) for row in table if _figures(row) > 1} for text in pages.values() for table in tables(text)]
    return [" | ".join(row) for row, n in Counter(row for rows in each for row in rows).items() if n > 1]


def _figures(row: Sequence[str]) -> int:
    return sum(bool(re.search(r"\d\.\d", cell)) for cell in row[1:])
