"""The command line: parse, call, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import App, Parameter

from fairsynth import __version__
from fairsynth.console import complain, guarded, in_utf8_mode, leave, prepare_streams, say
from fairsynth.errors import ConfigError, DataError, InfrastructureError

if TYPE_CHECKING:
    from fairsynth.config import RunConfig

STAGES = ("ingest", "embed", "cluster", "finetune", "synthesize", "audit", "tune", "evaluate", "report")
_HELP = """From a biased image dataset to a fair classifier and the balanced data behind it.

Any setting can be given as --section.key VALUE, for example --data.root DIR or --cluster.k 5.
Precedence: command line > CONFIG.yaml > --preset > default. The same command resumes a run.
Exit codes: 0 ok, 1 internal error, 2 config or usage, 3 data refused, 5 infrastructure, 6 output in use, 130 interrupted.
"""

Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
app = App(name="fairsynth", help=_HELP, version=__version__, result_action="return_value")


def _config_of(tokens: Sequence[str], preset: str | None, out: str | None, nothing: str) -> tuple[RunConfig, Path]:
    """The config of a command line, and its output folder. Raises ConfigError(nothing) for an empty one."""
    from fairsynth.config.load import load_config, parse_overrides

    path, rest = (tokens[0], tokens[1:]) if tokens and not tokens[0].startswith("-") else (None, tokens)
    if path is None and preset is None and not rest:
        raise ConfigError(nothing)
    config = load_config(path, preset, parse_overrides(rest) | ({"out": out} if out else {}))
    return config, Path(config.out).expanduser().resolve()


def _run(tokens: Sequence[str], preset: str | None, out: str | None, only: str | None) -> int:
    from fairsynth.lock import locked
    from fairsynth.preflight import check_early, worded

    nothing = "nothing to run: give a CONFIG.yaml or a preset, for example 'fairsynth run --preset demo'"
    config, root = _config_of(tokens, preset, out, nothing)
    metadata = check_early(config, root)
    config = worded(config, metadata)
    with locked(root):
        from fairsynth.pipeline import run

        outcome = run(config, only, say, metadata)
    if only in (None, "report"):
        from fairsynth.stages.report.step import summary_lines

        say("\n".join(["", *summary_lines(root)]))
    if not outcome.made:
        say(f"everything was finished before; nothing to do ({outcome.seconds:.1f} s)")
    else:
        say(f"done in {outcome.seconds:.0f} s")
    return 0


@app.command
def run(*tokens: Tokens, preset: str | None = None, out: str | None = None) -> int:
    """Run the whole pipeline: run [CONFIG.yaml] [--preset NAME] [--out DIR] [--section.key VALUE ...].

    Parameters
    ----------
    preset
        demo, waterbirds, celeba or utkface.
    out
        Output folder; on a cluster it must be shared by all nodes.
    """
    return guarded(lambda: _run(tokens, preset, out, None))


def _add_stage(stage: str) -> None:
    def command(*tokens: Tokens, preset: str | None = None, out: str | None = None) -> int:
        return guarded(lambda: _run(tokens, preset, out, stage))

    command.__doc__ = f"Run the stage {stage} alone; the earlier ones must be finished."
    app.command(command, name=stage)


for _stage in STAGES:
    _add_stage(_stage)


@app.command
def bench(*tokens: Tokens, preset: str | None = None, out: str | None = None) -> int:
    """Compare methods, generators, severities and datasets: bench [CONFIG.yaml] [--preset NAME] [--out DIR] [--bench.key VALUE ...].

    For example --bench.severities '[95%, 99%]' --bench.methods '[erm, group-dro, dfr, fairsynth]' --bench.generators
    '[vanilla, clustered-dreambooth]' --evaluate.seeds 5; --bench.ablation true tries other settings one at a time.
    --bench.datasets '{NAME: {data.root: DIR}, ...}' compares on several datasets. Writes OUT/bench: table.md, table.csv,
    bench.json, curve.png. The same command resumes. Exit code 3: a cell failed for a reason of its data; the table says
    which.

    Parameters
    ----------
    preset
        demo, waterbirds, celeba or utkface.
    out
        Output folder; on a cluster it must be shared by all nodes.
    """
    return guarded(lambda: _bench(tokens, preset, out))


def _bench(tokens: Sequence[str], preset: str | None, out: str | None) -> int:
    from fairsynth.lock import locked

    config, root = _config_of(
        tokens, preset, out, "compare what? give a CONFIG.yaml or a preset, for example 'fairsynth bench --preset demo'"
    )
    from fairsynth.commands.bench.run import bench, check

    check(config, root)
    with locked(root):
        done = bench(config, say)
    say((done.folder / "table.md").read_text("utf-8"))
    say(f"table, curve and all values: {done.folder}")
    if done.failed:
        raise DataError(
            f"{done.failed} of {done.cells} cells failed for a reason of their data; the table says which and why"
        )
    return 0


@app.command
def inspect(
    *tokens: Tokens,
    format: str | None = None,
    preset: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Look at a dataset before anything is spent on it: inspect DATA [--format F] [--json] [--section.key VALUE ...].

    DATA is a folder, s3://..., gs://..., or demo. Nothing is written. Exit code 3: a run would refuse the dataset.

    Parameters
    ----------
    format
        waterbirds, celeba, utkface, folder, classfolder, parquet or webdataset; recognised if not given.
    preset
        Take limits, columns and group sizes from this preset.
    json
        Everything as JSON, file names uncut.
    """
    return guarded(lambda: _inspect(tokens, format, preset, json))


def _inspect(tokens: Sequence[str], layout: str | None, preset: str | None, as_json: bool) -> int:
    import json

    from fairsynth.config.load import load_config, parse_overrides

    if not tokens or tokens[0].startswith("-"):
        raise ConfigError("inspect what? give the dataset's folder: fairsynth inspect DATA")
    overrides = parse_overrides(tokens[1:])
    if tokens[0] == "demo" and layout is None:
        overrides["data.format"] = "demo"
    else:
        overrides |= {"data.root": tokens[0]}
        overrides["data.format"] = layout or overrides.get("data.format", "auto")
    config = load_config(None, preset, overrides)

    from fairsynth.commands.inspect.run import inspect_dataset
    from fairsynth.commands.inspect.text import lines

    findings = inspect_dataset(config)
    if as_json:
        say(json.dumps(findings, indent=1, allow_nan=False))
    else:
        say("\n".join(lines(findings)))
    return 3 if findings["problems"] else 0


@app.command
def predict(*images: Tokens, run: Path | None = None, to: Path = Path("predictions.csv")) -> int:
    """Classify images with a run's classifier: predict IMAGES --run RUN [--to FILE.csv or FILE.parquet].

    IMAGES is a folder, s3://... or gs://...; what cannot be read is listed with a reason.

    Parameters
    ----------
    run
        Output folder of the run, or a classifier's folder.
    to
        The table: path, label, its probability, the probability of every label; CSV, or Parquet by its ending.
    """
    return guarded(lambda: _predict(images, run, to))


def _predict(images: Sequence[str], run: Path | None, to: Path) -> int:
    if len(images) != 1 or images[0].startswith("-") or run is None:
        raise ConfigError("predict what with which run? give both: fairsynth predict IMAGES --run RUN")
    from fairsynth.commands.predict.run import predict_images

    say(predict_images(images[0], run, to))
    return 0


@app.command
def export(
    *tokens: Tokens,
    format: Literal["kohya", "folder", "parquet", "webdataset"],
    to: Path | None = None,
    preset: str | None = None,
    out: str | None = None,
) -> int:
    """Write a run's images or adapters for other programs: nothing is made anew.

    Images: export [CONFIG.yaml] [--preset NAME] [--out DIR] [--section.key VALUE ...] --format parquet [--to DIR],
    with the options of the run. Adapters: export RUN --format kohya [--to DIR].

    Parameters
    ----------
    format
        folder (metadata.csv and files), parquet or webdataset: the accepted images. kohya: the adapters,
        as WebUI, ComfyUI and kohya's scripts read them; RUN is the output folder.
    to
        Folder to write to; OUT/synthetic-FORMAT or RUN/adapters-kohya if not given.
    preset
        demo, waterbirds, celeba or utkface.
    out
        Output folder of the run.
    """
    if format == "kohya":
        return guarded(lambda: _export_adapters(tokens, to, preset or out))
    return guarded(lambda: _export_images(tokens, format, to, preset, out))


def _export_adapters(tokens: Sequence[str], to: Path | None, other: str | None) -> int:
    from fairsynth.commands.export.adapters import export_kohya

    if len(tokens) != 1 or tokens[0].startswith("-") or other:
        raise ConfigError(
            "export which adapters? give the output folder of a run alone: fairsynth export RUN --format kohya"
        )
    run = Path(tokens[0])
    target = to or run / "adapters-kohya"
    say("\n".join(export_kohya(run, target).lines(target)))
    return 0


def _export_images(
    tokens: Sequence[str],
    form: Literal["folder", "parquet", "webdataset"],
    to: Path | None,
    preset: str | None,
    out: str | None,
) -> int:
    what = f"give the run's CONFIG.yaml or preset: fairsynth export CONFIG --format {form}"
    if tokens and not tokens[0].startswith("-") and Path(tokens[0]).is_dir():
        raise ConfigError(f"{tokens[0]} is a folder; {what}")
    config, _ = _config_of(tokens, preset, out, f"export what? {what}")

    from fairsynth.commands.export.images import export_set

    say(export_set(config, form, to))
    return 0


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    import signal

    from cyclopts import CycloptsError

    prepare_streams()
    # A stopped job ends as an interrupted command does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = app(list(sys.argv[1:] if argv is None else argv), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        complain(f"{' '.join(str(error).split())}; 'fairsynth --help' lists the commands")
        return ConfigError.exit_code
    except OSError as error:  # while the help is printed; those of commands are told before
        complain(f"the output cannot be written: {error.strerror or error}")
        return InfrastructureError.exit_code
    return result if isinstance(result, int) else 0


def script(argv: Sequence[str] | None = None) -> NoReturn:
    """The console command: ``main`` and the end of the process."""
    in_utf8_mode()
    leave(main(argv))


if __name__ == "__main__":
    script()
