"""Facts of a set for its cards, and hostile text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fairsynth.exports.set_facts import GroupFacts, SetFacts

HOSTILE = [
    "a|b", "a\\|b", "\\", "`x`", "``", "a\nb", "a\r\n\r\n| 1 | 2 |", "\n```\nfence", "<script>alert(1)</script>",
    "<!-- ", "&lt;b&gt; &#60;", "[x](http://x.example)", "![x](y)", "<http://x.example>", "*a* **b** _c_ __d__",
    "~~a~~", "# a", "- a", "1. a", "---", ":---:", "{{ x }} {% y %}", "\u202eevil\x1b[31m", "grün 日本語 🙂",
]  # fmt: skip


def facts(**changed: Any) -> SetFacts:
    groups = (
        GroupFacts(
            "low",
            "flower",
            15,
            300,
            300,
            "own",
            {"low_score": 90, "copy": 10},
            ("a sks low", "a sks flower"),
            "",
            (2.5,),
        ),
        GroupFacts("high", "sea", 0, 120, 300, "prompt", {}, ("a high",), "no training images", (2.5,)),
    )
    plain = SetFacts(
        "Digits, balanced", "bb90e427", groups, "demo digits", "org/diffusion", "abc123", "org/clip", "def456",
        32, 48, "JPEG", "DDIMScheduler", 12, 7, "the best 75 % by score", "LoRA of rank 8",
    )  # fmt: skip
    return replace(plain, **changed)
