"""What the pages say of how fast things are."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from statistics import median

from tests.support.docs.measured.results import Json, percent, result, row, spread, times
from tests.support.docs.measured.text import said


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    many = [*_peft(), *_sd15(), *_processes(), *_generating(), *_generating_sd15(), *_expected()]
    return {"docs/benchmarks.md": [*many, *_million(), *_many_units(), *_places(), *_classifiers(), *_search()]}


def _peft() -> list[str]:
    names = {"sdxl": "Stable Diffusion XL", "sd3": "Stable Diffusion 3", "flux2": "FLUX.2", "zimage": "Z-Image"}
    demo = [_beside_peft(str(one["batch"]), one) for one in result("stacked_vs_peft")["rows"]]
    families = [_beside_peft(names[one["base"]], one) for one in result("stacked_families_cpu")["rows"]]
    return ["\n".join(demo), "\n".join(families)]


def _beside_peft(title: str, one: Json) -> str:
    rates = [spread(one["rates"][name]) for name in ("peft", "peft, fused AdamW", "fairsynth")]
    ratios = [spread(one["ratios"][name], 2) for name in ("peft", "peft, fused AdamW")]
    return row(title, *rates, *ratios, f"{one['apart']:.1e}")


def _rates(one: Json) -> list[float]:
    return [one["adapters"] * one["each"] / seconds for seconds in one["seconds"]]


def _sd15() -> list[str]:
    known = {(one["trainer"], one["adapters"], one["each"]): one for one in result("stacked_sd15_h100")["rows"]}
    columns = [("stacked", n) for n in (1, 4, 8, 16)] + [("peft", 1), ("plain", 1), ("compiled", 1)]
    titles = {1: "a sample of each", 4: "4 samples of each"}
    rates, gains = [], []
    for each, title in titles.items():
        found = [known[trainer, n, each] for trainer, n in columns]
        rates.append(row(title, *(spread(_rates(one)) if "seconds" in one else "not measured" for one in found)))
        stacked, beside = found[3], (found[4], found[6])
        gain = [f"{times(_rates(stacked), _rates(one)):.1f}" if "seconds" in one else "not measured" for one in beside]
        gains.append(row(title, *gain, percent(stacked["share"], 0), f"{stacked['peak_gb']:.1f} GB"))
    compiled = result("stacked_sd15_h100_compiled")["rows"][0]
    return [
        "\n".join(rates),
        "\n".join(gains),
        said(
            "16 adapters with a sample each reach {} samples/s and {}. Compiling takes {} s;",
            *(f"{median(_rates(compiled)):.0f}", percent(compiled["share"], 0), f"{compiled['took_s']:.0f}"),
        ),
    ]


def _expected() -> list[str]:
    """What a GPU is expected to show: shares that were measured, and what follows from them."""
    known = {(one["trainer"], one["adapters"], one["each"]): one for one in result("stacked_sd15_h100")["rows"]}
    one, four, alone = (known["stacked", n, each] for n, each in ((16, 1), (16, 4), (1, 1)))
    compiled = result("stacked_sd15_h100_compiled")["rows"][0]
    gain = times(_rates(compiled), _rates(one))
    assert 1.2 < gain < 1.3  # a quarter
    images = {row["how"]: row for row in result("generate_sd15_h100")["rows"]}
    eager, whole = (
        float(images[f"merged, {how}"]["share of matrix rate"].rstrip("%")) / 100 for how in ("eager", "compiled")
    )
    batch = 16 / images["merged, compiled"]["images/s"]
    # Three passes of numpy over the pixels of 16 images, at some 10 GB/s, and as many bytes from the card to the host.
    beside = whole * batch / (batch - 4 * 16 * 512 * 512 * 3 * 4 / 1e10 * 3)
    shares = [percent(value, 0).rstrip(" %") for value in (one["share"], compiled["share"], eager, whole)]
    most = times(_rates(compiled), _rates(alone))
    rows = [
        ("16 adapters, a sample of each, compiled, channels last", f"{shares[1]} %", f"{shares[1]} %"),
        ("16 adapters, 4 samples of each, compiled", percent(four["share"], 0), percent(four["share"] * gain, 0)),
        (
            "one adapter, a sample, compiled with CUDA graphs",
            percent(alone["share"], 0),
            f"up to {most:.0f} times as fast",
        ),
        ("images, 20 steps with guidance, compiled block by block", f"{shares[3]} %", f"{shares[2]} to {shares[3]} %"),
        ("the same, as a whole, files beside the next batch", f"{shares[3]} %", percent(beside, 0)),
    ]
    lines = [row(title, before, "not measured", after) for title, before, after in rows]
    return ["\n".join(lines), said("took {} s, of which the host", f"{batch:.2f}")]


def _processes() -> list[str]:
    seconds = result("finetune_vs_processes")["seconds"]
    ours = seconds["fairsynth finetune"]
    lines = [
        row(
            "`fairsynth finetune`" if name == "fairsynth finetune" else name,
            f"{spread(values)} s",
            str(len(values)),
            f"{times(values, ours):.2f}",
        )
        for name, values in seconds.items()
    ]
    return ["\n".join(lines)]


def _generating() -> list[str]:
    lines = []
    names = {
        "4 adapters x 200 images": "4 adapters, 200 images each",
        "32 adapters x 8 images": "32 adapters, 8 images each",
    }
    for name, title in names.items():
        ours, loop, fused = (result("generate_vs_loop")[name][how] for how in ("fairsynth", "loop", "loop, fused"))
        cells = [f"{ours['images/s']:.1f}"]
        for one in (loop, fused):
            cells += [f"{one['images/s']:.1f}", one["fairsynth is faster by"]]
        lines.append(row(title, *cells))
    starts = sorted(result("generate_vs_loop")[name]["fairsynth"]["start, s"] for name in names)
    whole = [result("generate_vs_loop")[name]["loop, fused"]["start included"].split(" ")[0] for name in names]
    said_start = said(
        "fairsynth's {} to {} s (Ray, workers, models) it is still {} and {} times as fast as the merged loop",
        *(str(end) for end in (floor(starts[0]), ceil(starts[-1]))),
        *whole,
    )
    return ["\n".join(lines), said_start]


def _generating_sd15() -> list[str]:
    titles = {
        "merged, eager": "one adapter, merged, eager",
        "merged, compiled": "one adapter, merged, compiled (what fairsynth does)",
        "merged, compiled, guidance on half": "the same, guidance on the first half of the steps",
        "4 stacked adapters, eager": "four stacked adapters in a batch, eager",
    }
    rows = {one["how"]: one for one in result("generate_sd15_h100")["rows"]}
    lines = [
        row(
            title,
            f"{rows[how]['images/s']:.2f}",
            rows[how]["share of matrix rate"].replace("%", " %"),
            f"{rows[how]['peak GB']:.1f}",
        )
        for how, title in titles.items()
    ]
    rate = result("generate_sd15_h100")["machine"]["matrix_tflops"]
    ranges = [[float(end) for end in rows[how]["range"].split(" - ")] for how in titles]
    apart = max(high / low - 1 for low, high in ranges)
    return [
        "\n".join(lines),
        said("bf16 matrix product's {} TFLOP/s.", f"{rate:.0f}"),
        said("two calls each, no more than {} apart.", percent(apart)),
    ]


def _million() -> list[str]:
    found = result("million_rows")
    return [
        row("planning", f"{found['planning']:.1f} s"),
        row(
            "a run that was killed half-way knows what is left",
            said("after {} s", f"{found['resume decides after']:.1f}"),
        ),
        row(
            "memory of the driver while it filters and writes, at most",
            f"{found['driver memory, GB, most']:.1f} GB",
        ),
    ]


def _many_units() -> list[str]:
    found = result("many_units")
    failed, memory = found["units that failed"], found["driver memory, MB, every tenth of the run"]
    parts = [f"{memory[place] / 1000:.3f}" for place in (1, len(memory) // 2, -1)]
    return [
        said("first begun: {} kill their worker, {} raise", str(failed["killed"]), str(failed["raised"])),
        row("units committed", f"{found['units committed']:,}"),
        row("units begun again", str(found["units begun again"])),
        row("overhead, three starts of all workers and 18 of single ones in it", percent(found["overhead"], 0)),
        row(
            said(
                "the same without the first start, of {} s", f"{found['start of the first workers, seconds, mean']:.0f}"
            ),
            percent(found["overhead after one start of the workers"], 0),
        ),
        row(
            "memory of the driver after a tenth, a half and all of the run",
            said("{}, {} and {} GB", *parts),
        ),
    ]


def _places() -> list[str]:
    found = result("disk_or_bucket")
    seconds = {name: found[name]["seconds"] for name in ("before, disk", "disk", "bucket")}
    rows = result("rows_before_after")
    longer = [now / then - 1 for then, now in zip(rows["before"]["whole run"], rows["after"]["whole run"], strict=True)]
    return [
        said("took {}, {}, {} and {} longer than before", *(percent(share, 0) for share in longer)),
        row("before, on a disk", f"{seconds['before, disk']:.0f} s"),
        row("on a disk", said("{} s, {} times", f"{seconds['disk']:.0f}", f"{found['disk / before, disk']:.2f}")),
        row(
            "in a bucket", said("{} s, {} times the disk", f"{seconds['bucket']:.0f}", f"{found['bucket / disk']:.2f}")
        ),
    ]


def _classifiers() -> list[str]:
    titles = (
        "fairsynth, ERM",
        "fairsynth, Group-DRO",
        "fairsynth, stage 1 of fairsynth",
        "the shortest loop in plain PyTorch, bfloat16",
        "the same in float32",
    )
    rates = [one["images_per_s"] for one in result("classify_gpu_h100")["rows"]]
    return ["\n".join(row(title, f"{round(rate, -1):,.0f}") for title, rate in zip(titles, rates, strict=True))]


def _search() -> list[str]:
    found = result("search_overhead")
    start = found["Ray's start, s"]
    return [
        "\n".join(
            row(title, *(f"{seconds:.0f} s" for seconds in found[name]))
            for title, name in (("Ray Tune", "tune, s"), ("plain loops, a process per core", "loops, s"))
        ),
        said("Ray Tune costs {} times the same trainings in plain loops.", f"{found['tune beside loops']:.2f}"),
        said("Ray's start of {} s is not counted.", f"{start:.0f}"),
    ]
