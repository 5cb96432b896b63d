"""Figures of the pages that no result file has, each with the reason, and numbers that are no measurements.

A new measurement belongs into ``benchmarks/results/`` and beside the others here, not into this list.
"""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """Figures of a page from a text to another one, both with it; without the second the first text alone."""

    page: str
    start: str
    end: str
    why: str


def _of(page: str, *texts: str, why: str) -> list[Span]:
    return [Span(f"docs/{page}.md", *[*text.split(" ... "), ""][:2], why) for text in texts]


# Measured before results were kept in files (2026-11-24 to 26), or by hand beside another measurement.
UNSOURCED = [
    *_of(
        "benchmarks",
        "without these ERM reached 37.8 % and Group-DRO 72.6 % in worst-group accuracy (2026-11-26)",
        why="a run of the demo of 2026-11-26, before strong changes; its report was not kept",
    ),
    *_of(
        "benchmarks",
        "fairsynth without synthetic images 97.6 % in the worst group (96.0 – 99.2), DFR, with strong changes in half of its "
        "trials, 85.7 % (78.4 – 93.0).",
        why="a bench of 2026-11-29; its bench.json was not kept",
    ),
    *_of(
        "benchmarks",
        "Before the shared adapter the stages took 593 s ... It adds about 75 s of training",
        why="a run of the demo of 2026-11-29 by the code before the shared adapter; its report was not kept",
    ),
    *_of(
        "benchmarks",
        "| clustered-dreambooth (12 adapters) | 75.0 % ... | 80.4 % | 0 s |",
        why="three runs of the demo of 2026-11-25; their reports were not kept, and the code has changed",
    ),
    *_of(
        "benchmarks",
        "| vanilla | 79.1% (75.5% – 82.3%) ... | 92% | 76% | 90% | 47% |",
        why="printed by benchmarks/generators.py on 2026-11-25, which wrote no file",
    ),
    *_of(
        "benchmarks",
        "70 to 91 %, 88 to 97 %, 63 to 76 % and 71 to 86 % for the four groups at 95 %.",
        why="from the audit of the run behind synthetic_sets.json (2026-11-26), which that file does not have",
    ),
    *_of(
        "benchmarks",
        "(about 80 ms when the machine is quiet)",
        "takes 44 ms",
        why="timed by hand beside the benchmark (2026-11-25)",
    ),
    *_of(
        "benchmarks",
        "| 183 to 239 s |",
        "however many there are still to come | 0.7 GB |",
        why="239 s are in million_rows.json; 183 s are of a run before it (2026-11-26); 0.7 GB was read off the file's series",
    ),
    *_of(
        "benchmarks",
        "| 20,000 | 1.01 | 3 ... the median was 1.07 and 1.28",
        why="printed by benchmarks/ingest_embed.py on 2026-11-24, which wrote no file",
    ),
    *_of(
        "comparing-methods",
        "which took 50 minutes with tests beside it",
        "2026-11-26; 19 minutes",
        why="wall clock, by hand (2026-11-26)",
    ),
    *_of(
        "synthetic-sets",
        "these were 0.95 to 0.99, 0.3 to 0.5 and 0.81.",
        why="from the audit of a run of the demo of 2026-11-29 by the code before the shared adapter; not kept",
    ),
    *_of("worlds", "2026-11-29; 18 minutes", why="wall clock, by hand (2026-11-29)"),
    *_of(
        "worlds",
        "(AUC 0.97 to 0.99 of real images that went through it)",
        "the shared adapter is right in 98, 94, 99 and 94 % ... with AUC 0.87 to 0.98 against 0.95 to 0.98.",
        why="judged by hand with the scripts of benchmarks/worlds/sets.py (2026-11-29); not in world_sets.json",
    ),
    *_of(
        "worlds",
        "Real images alone reach 89.5 ... with AUC 0.82 to 0.90 and 0.84 to 0.92.",
        why="trials on the worlds to settle by (2026-11-28 and 29), two trainings each; only what they decided was kept",
    ),
]
# Rules, limits and examples.
NO_MEASUREMENTS = [
    *_of("check-the-figures", "fairlearn says 1.0 (1 against 0), the report 0.5", why="an example by hand"),
    *_of("architecture", "that are there 15 s after the driver was killed", why="a rule of the harness"),
    *_of("comparing-methods", "more than 2 points below the rival", why="the goal"),
    *_of("benchmarks", "So 45 % for training and 55 % for images", why="the goal"),
    *_of("first-steps", "1.5 bytes for a pixel", why="an allowance of doctor"),
    *_of("limits-and-ethics", "anything from 55 to 100 %", why="a binomial interval"),
    *_of("limits-and-ethics", "(Stable Diffusion 3 and 3.5)", why="names"),
    *_of("method", "at most the best 75 % by CLIP score", why="filter.keep"),
    *_of("method", "higher in 90 % of resamplings", why="the rule of the search"),
    *_of("security", "it takes at most 20 s of CPU", why="a limit of the test"),
    *_of("synthetic-sets", "(25 %) must show it", "Why 25 %:", why="synthesize.min_shown"),
    *_of("synthetic-sets", "(70 %), label and attribute both", "(90 %) must be", why="the filter's limits"),
    *_of("synthetic-sets", "is uncertain by 20 points", why="a binomial interval"),
    *_of("synthetic-sets", "75 % of what was made at most", why="filter.keep"),
    *_of("terms", "a severity of 99 % leaves one image in a hundred", why="a definition"),
    *_of("terms", "refitted, 20 times, on balanced validation images, or 10 times on", why="the method"),
    *_of(
        "watching-a-run",
        "a line of the same every 30 s instead",
        "there is one every 10 s, and after 90 s without any it is called silent",
        "its progress and its log about every 10 s",
        why="rules",
    ),
    *_of(
        "worlds",
        "90 % with biased validation, and more than one repetition at 90 and 99 %, and at 99.9 % with balanced",
        why="degrees of bias",
    ),
    *_of("your-data", "the demo's 99.9 % are 99.65 %", why="285 of 286 images"),
    *_of("your-data", "(or 0.999, ...)", "More than 1 % bad images, or 5 % in a group", why="settings"),
]
