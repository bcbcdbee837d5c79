"""What a figure is, and how figures are told: ours beside a reference of the same minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured stretch."""

    #: How many things were done.
    count: int
    #: How long that took, in seconds.
    wall_s: float
    #: CPU that the server used for it, in seconds; 0 where the system does not tell.
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Things per second."""
        return self.count / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU of the server for one thing, in microseconds."""
        return 1e6 * self.cpu_s / self.count


@dataclass(frozen=True, slots=True)
class Figure:
    """Rounds of ours and of the reference, taken in turns."""

    name: str
    #: What is counted, in the plural.
    unit: str
    #: Least share of the reference, 0 to 1.
    floor: float
    ours: tuple[Sample, ...]
    reference: tuple[Sample, ...]

    @property
    def rate(self) -> float:
        """The median of our rounds, per second."""
        return median(sample.rate for sample in self.ours)

    @property
    def reference_rate(self) -> float:
        """The median of the reference's rounds, per second."""
        return median(sample.rate for sample in self.reference)

    @property
    def ratio(self) -> float:
        """Our median as a share of the reference's."""
        return self.rate / self.reference_rate

    @property
    def cpu_us(self) -> float:
        """Median CPU of the server for one thing, in microseconds."""
        return median(sample.cpu_us for sample in self.ours)

    @property
    def ok(self) -> bool:
        """Whether the floor is kept."""
        return self.ratio >= self.floor


_HEAD = ("figure", "ours/s", "reference/s", "ratio", "floor", "ok", "server CPU")


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table for people."""
    rows = [_HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        f"{figure.name}: {figure.unit}",
        f"{figure.rate:,.0f}",
        f"{figure.reference_rate:,.0f}",
        f"{figure.ratio:.1%}",
        f"{figure.floor:.0%}",
        "yes" if figure.ok else "NO",
        f"{figure.cpu_us:,.0f} us each",
    )


def rounds_told(figure: Figure) -> str:
    """Return every round of a figure in a line, so that a noisy machine is seen."""
    ours = " ".join(f"{sample.rate:,.0f}" for sample in figure.ours)
    reference = " ".join(f"{sample.rate:,.0f}" for sample in figure.reference)
    return f"  {figure.name}: ours {ours}; reference {reference}"
