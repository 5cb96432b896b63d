"""The command bench."""

from __future__ import annotations

from collections.abc import Sequence

from fairsynth.commands.words import Hours, Tokens, config_of
from fairsynth.console import guarded, say
from fairsynth.errors import DataError


def bench(
    *tokens: Tokens, preset: str | None = None, out: str | None = None, max_worker_hours: Hours | None = None
) -> int:
    """Compare methods, generators, severities and datasets.

    bench [CONFIG.yaml] [--preset NAME] [--out DIR] [--bench.key VALUE ...]

    For example --bench.severities '[95%, 99%]' --bench.methods '[erm, group-dro, dfr, fairsynth]' --bench.generators
    '[vanilla, clustered-dreambooth]' --evaluate.seeds 5; --bench.ablation true tries other settings one at a time.
    --bench.datasets '{NAME: {data.root: DIR}, ...}' compares on several datasets. Writes OUT/bench: table.md, table.csv,
    bench.json, curve.png. The same command resumes. Exit code 3: a cell failed for a reason of its data; the table says
    which.

    Parameters
    ----------
    preset
        demo, demo-flow, waterbirds, celeba or utkface.
    out
        Output folder, on a cluster one that all nodes share; or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX.
    max_worker_hours
        Stop, with exit code 4, when the workers have worked so many hours together; the same command goes on.
    """
    return guarded(lambda: _bench(tokens, preset, out, max_worker_hours))


def _bench(tokens: Sequence[str], preset: str | None, out: str | None, max_worker_hours: float | None) -> int:
    from fairsynth.lock import locked
    from fairsynth.run_folder.mark import check_folder, claim

    config, root = config_of(
        tokens, preset, out, "compare what? give a CONFIG.yaml or a preset, for example 'fairsynth bench --preset demo'"
    )
    from fairsynth.commands.bench.run import bench, check
    from fairsynth.commands.run.place import remark

    check_folder(root)
    check(config, root)
    if told := remark(root):
        say(told)
    with locked(root):
        claim(root)
        done = bench(config, say, max_worker_hours)
    say((done.folder / "table.md").read_text("utf-8"))
    say(f"table, curve and all values: {done.folder}")
    if done.failed:
        raise DataError(
            f"{done.failed} of {done.cells} cells failed for a reason of their data; the table says which and why"
        )
    return 0
