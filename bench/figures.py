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
    #: The share that is aimed at, where that is not the floor yet.
    aim: float = 0.0

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

    @property
    def row(self) -> tuple[str, ...]:
        """A line of the table."""
        return (
            f"{self.name}: {self.unit} a second",
            f"{self.rate:,.0f}",
            f"{self.reference_rate:,.0f}",
            f"{self.ratio:.1%}",
            f"{self.floor:.0%}",
            f"{self.aim:.0%}" if self.aim else "",
            "yes" if self.ok else "NO",
            f"{self.cpu_us:,.1f} us each",
        )

    @property
    def told(self) -> str:
        """Every round, so that a noisy machine is seen."""
        ours = " ".join(f"{sample.rate:,.0f}" for sample in self.ours)
        reference = " ".join(f"{sample.rate:,.0f}" for sample in self.reference)
        return f"  {self.name}: ours {ours}; reference {reference}"

    @property
    def plain(self) -> dict[str, object]:
        """What a program reads."""
        return {
            "figure": self.name,
            "ours": self.rate,
            "reference": self.reference_rate,
            "ratio": self.ratio,
            "floor": self.floor,
            "aim": self.aim or self.floor,
            "ok": self.ok,
            "cpu_us": self.cpu_us,
        }


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that may not be greater than a limit."""

    name: str
    #: What is measured, and of what.
    what: str
    value: float
    limit: float
    unit: str
    #: What it is held against, in the same unit; None: nothing but the limit.
    reference: float | None = None
    #: The limit that is aimed at, where that is not the limit yet.
    aim: float | None = None

    @property
    def ok(self) -> bool:
        """Whether it keeps the limit."""
        return self.value <= self.limit

    @property
    def row(self) -> tuple[str, ...]:
        """A line of the table."""
        beside = "" if self.reference is None else f"{self.reference:,.2f} {self.unit}"
        return (
            f"{self.name}: {self.what}",
            f"{self.value:,.2f} {self.unit}",
            beside,
            "",
            f"<= {self.limit:,.2f}",
            "" if self.aim is None else f"<= {self.aim:,.2f}",
            "yes" if self.ok else "NO",
            "",
        )

    @property
    def told(self) -> str:
        """What was found, in a line."""
        return f"  {self.name}: {self.value:,.2f} {self.unit}, at most {self.limit:,.2f}"

    @property
    def plain(self) -> dict[str, object]:
        """What a program reads."""
        return {
            "figure": self.name,
            "what": self.what,
            "ours": self.value,
            "unit": self.unit,
            "limit": self.limit,
            "reference": self.reference,
            "ok": self.ok,
        }


_HEAD = ("figure", "ours", "reference", "ratio", "floor", "aim", "ok", "server CPU")


def table(figures: Sequence[Figure | Bound]) -> str:
    """Return the figures as a table for people."""
    rows = [_HEAD, *(figure.row for figure in figures)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)
