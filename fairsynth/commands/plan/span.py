"""A number that is known exactly, or as a range with what is likely."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """At least, likely, at most."""

    least: int
    likely: int
    most: int

    @classmethod
    def of(cls, n: int) -> Span:
        """An exact number."""
        return cls(n, n, n)

    @property
    def exact(self) -> bool:
        """Whether it is one number."""
        return self.least == self.most

    def plus(self, other: Span) -> Span:
        """The sum of both."""
        return Span(self.least + other.least, self.likely + other.likely, self.most + other.most)

    def times(self, factor: int) -> Span:
        """Each a number of times."""
        return Span(self.least * factor, self.likely * factor, self.most * factor)

    @property
    def sign(self) -> str:
        """What stands before the likely number: nothing if it is exact."""
        if self.exact:
            return ""
        return "<=" if self.likely == self.most else "~"


NONE = Span.of(0)
