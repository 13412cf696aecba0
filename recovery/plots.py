"""Plots as inline SVG: a rendering of values, without a library, that prints and follows light and dark. Pure.

Colours are classes that the page's style sheet fills in. Every mark carries its figure as a title.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape, quoteattr

from recovery.value import Value

WIDTH = 720
LEFT, TOP, BOTTOM = 46, 10, 26
LABEL = 78
"""The room that a label below a plot needs."""


class Part(Value):
    """A part of a bar: its height in the axis's unit, its class and what to say of it."""

    name: str
    amount: float
    style: str


class Bar(Value):
    """A bar of stacked parts; `label` below it, `said` in full."""

    label: str
    said: str
    parts: tuple[Part, ...]

    @property
    def whole(self) -> float:
        """The sum of its parts."""
        return sum(each.amount for each in self.parts)


class Row(Value):
    """A row of a calendar: (class, what to say) for each cell, oldest first."""

    name: str
    cells: tuple[tuple[str, str], ...]


def ticks(most: float, count: int = 4) -> tuple[float, ...]:
    """Round values from 0 to at least `most`: 1, 2 or 5 times a power of ten apart."""
    if most <= 0:
        return (0.0, 1.0)
    rough = most / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    number = 1
    while step * number < most * (1 - 1e-9):
        number += 1
    return tuple(round(step * each, 10) for each in range(number + 1))


def bars(found: Sequence[Bar], *, title: str, unit: str, height: int = 200, width: int = WIDTH) -> str:
    """Stacked bars from left to right, with a scale on the left and labels below those that have room."""
    if not found:
        return ""
    scale = ticks(max(each.whole for each in found))
    slot = (width - LEFT) / max(len(found), width // 60)
    wide = min(slot * 0.68, 34.0)
    drawn = [_axis(scale, unit, height, width)]
    for number, bar in enumerate(found):
        x = LEFT + slot * number + (slot - wide) / 2
        y = float(height - BOTTOM)
        drawn.append(f"<g><title>{escape(bar.said)}</title>")
        for part in bar.parts:
            tall = part.amount / scale[-1] * (height - BOTTOM - TOP)
            y -= tall
            drawn.append(
                f'<rect class={quoteattr(part.style)} x="{x:.1f}" y="{y:.2f}" width="{wide:.1f}" height="{tall:.2f}"/>'
            )
        drawn.append("</g>")
        if (len(found) - 1 - number) % ceil(LABEL / slot) == 0:
            drawn.append(_label(x + wide / 2, height - 8, bar.label))
    return _svg(title, height, drawn, width)


def line(points: Sequence[tuple[str, str, float]], *, title: str, unit: str, style: str, height: int = 160) -> str:
    """A line with a dot a measurement: (label, said, amount), oldest first."""
    if not points:
        return ""
    scale = ticks(max(amount for _, _, amount in points))
    slot = (WIDTH - LEFT) / max(len(points), 12)
    places = [
        (LEFT + slot * (number + 0.5), height - BOTTOM - amount / scale[-1] * (height - BOTTOM - TOP))
        for number, (_, _, amount) in enumerate(points)
    ]
    path = " ".join(f"{'M' if n == 0 else 'L'}{x:.1f} {y:.2f}" for n, (x, y) in enumerate(places))
    drawn = [_axis(scale, unit, height, WIDTH), f'<path class={quoteattr("line " + style)} d="{path}"/>']
    for number, ((x, y), (label, said, _)) in enumerate(zip(places, points, strict=True)):
        dot = f'<circle class={quoteattr("dot " + style)} cx="{x:.1f}" cy="{y:.2f}" r="3.2"/>'
        drawn.append(f"<g><title>{escape(said)}</title>{dot}</g>")
        if (len(points) - 1 - number) % ceil(LABEL / slot) == 0:
            drawn.append(_label(x, height - 8, label))
    return _svg(title, height, drawn)


def calendar(rows: Sequence[Row], *, title: str) -> str:
    """Rows of cells, the newest at the right edge."""
    longest = max((len(each.cells) for each in rows), default=0)
    if not longest:
        return ""
    names, tall = 96, 20
    size = min(14.0, (WIDTH - names) / longest)
    drawn: list[str] = []
    for number, row in enumerate(rows):
        y = 6 + number * tall
        drawn.append(f'<text class="name" x="0" y="{y + 11}">{escape(row.name)}</text>')
        for place, (style, said) in enumerate(row.cells):
            x = names + size * (longest - len(row.cells) + place)
            box = f'x="{x:.2f}" y="{y}" width="{max(1.0, size - 1.5):.2f}" height="13" rx="2"'
            drawn.append(f"<rect class={quoteattr('cell ' + style)} {box}><title>{escape(said)}</title></rect>")
    return _svg(title, 8 + len(rows) * tall, drawn)


def _axis(scale: Sequence[float], unit: str, height: int, width: int) -> str:
    drawn: list[str] = []
    for value in scale:
        y = height - BOTTOM - value / scale[-1] * (height - BOTTOM - TOP)
        style = "base" if value == 0 else "grid"
        drawn.append(f'<line class="{style}" x1="{LEFT}" x2="{width}" y1="{y:.2f}" y2="{y:.2f}"/>')
        text = f"{value:g} {unit}" if value == scale[-1] else f"{value:g}"
        drawn.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.2f}">{escape(text)}</text>')
    return "".join(drawn)


def _label(x: float, y: float, text: str) -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(title: str, height: int, drawn: Sequence[str], width: int = WIDTH) -> str:
    name = quoteattr(title)
    return f'<svg role="img" aria-label={name} viewBox="0 0 {width} {height}">{"".join(drawn)}</svg>'
