"""The command export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fairsynth.commands.words import Tokens, config_of
from fairsynth.console import guarded, say
from fairsynth.errors import ConfigError


def export(
    *tokens: Tokens,
    format: Literal["kohya", "onnx", "folder", "parquet", "webdataset"],
    to: str | None = None,
    preset: str | None = None,
    out: str | None = None,
    sensitive: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a run's images, adapters or classifier for other programs; nothing is made anew.

    Images: export [CONFIG.yaml] [--preset NAME] [--out DIR] [--section.key VALUE ...] --format parquet [--to DIR],
    with the options of the run. Adapters: export RUN --format kohya [--to DIR].
    Classifier: export RUN --format onnx [--to DIR or FILE.onnx].

    Parameters
    ----------
    format
        folder (metadata.csv and files), parquet or webdataset: the accepted images. kohya: the adapters,
        as WebUI, ComfyUI and kohya's scripts read them; RUN is the output folder. onnx: the classifier,
        for programs without PyTorch; needs pip install 'fairsynth[onnx]'.
    to
        Folder of this machine to write to; OUT/synthetic-FORMAT, RUN/adapters-kohya or RUN/classifier-onnx if not given.
        For a run in a bucket it must be given: nothing is written there.
    preset
        demo, demo-flow, waterbirds, celeba or utkface.
    out
        Output folder of the run.
    sensitive
        With kohya or onnx: export what learnt from images of people, too.
    """
    if format == "kohya":
        return guarded(lambda: _export_adapters(tokens, to, preset or out, sensitive))
    if format == "onnx":
        return guarded(lambda: _export_classifier(tokens, to, preset or out, sensitive))
    return guarded(lambda: _export_images(tokens, format, to, preset, out))


def _export_adapters(tokens: Sequence[str], to: str | None, other: str | None, sensitive: bool) -> int:
    from fairsynth.commands.export.adapters import export_kohya
    from fairsynth.commands.export.people import require_asked
    from fairsynth.commands.export.target import export_target
    from fairsynth.store.view import typed_root

    if len(tokens) != 1 or tokens[0].startswith("-") or other:
        raise ConfigError(
            "export which adapters? give the output folder of a run alone: fairsynth export RUN --format kohya"
        )
    run = typed_root(tokens[0])
    target = export_target(run, to, "adapters-kohya")
    require_asked(run, "the adapters", sensitive)
    say("\n".join(export_kohya(run, target).lines(target)))
    return 0


def _export_classifier(tokens: Sequence[str], to: str | None, other: str | None, sensitive: bool) -> int:
    if len(tokens) != 1 or tokens[0].startswith("-") or other:
        raise ConfigError(
            "export which classifier? give the output folder of a run alone: fairsynth export RUN --format onnx"
        )
    from fairsynth.commands.export.classifier import export_onnx
    from fairsynth.commands.export.people import require_asked
    from fairsynth.commands.export.target import export_target
    from fairsynth.store.view import typed_root

    run = typed_root(tokens[0])
    target = export_target(run, to, "classifier-onnx")
    require_asked(run, "the classifier", sensitive)
    say(export_onnx(run, target))
    return 0


def _export_images(
    tokens: Sequence[str],
    form: Literal["folder", "parquet", "webdataset"],
    to: str | None,
    preset: str | None,
    out: str | None,
) -> int:
    what = f"give the run's CONFIG.yaml or preset: fairsynth export CONFIG --format {form}"
    from fairsynth.store.address import is_bucket
    from fairsynth.store.view import read_root

    if tokens and not tokens[0].startswith("-") and is_bucket(tokens[0]):
        raise ConfigError(
            f"the address of a run is no config; {what} --out {tokens[0].partition(':')[0]}://BUCKET/PREFIX"
        )
    if tokens and not tokens[0].startswith("-") and Path(tokens[0]).is_dir():
        raise ConfigError(f"{tokens[0]} is a folder; {what}")
    config, root = config_of(tokens, preset, out, f"export what? {what}")

    from fairsynth.commands.export.images import export_set
    from fairsynth.commands.export.target import export_target

    target = export_target(root, to, f"synthetic-{form}")
    read_root(config.out)  # is a run there at all?
    say(export_set(config, form, target))
    return 0
