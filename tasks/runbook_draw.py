"""A runbook or plan as a picture: Mermaid text, and SVG by a small layered layout of our own. No effects.

Separate from pages, because a picture needs a place for every step. Layers are the parallel groups, from top to bottom;
within a layer, steps stand near the middle of what they need, so that few lines cross. Needs that follow from others
are left out. The same steps give the same picture, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from recovery.binding import groups
from recovery.plan import in_order
from recovery.step import Mode, Step

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _EDGE = 190, 46, 24, 44, 16
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#111}.verb{font-size:11px;fill:#555}"
    "rect{fill:#fff;stroke:#333;stroke-width:1.2}.live{stroke-width:2.6}.omitted{stroke-dasharray:4 3;stroke:#999}"
    ".always{fill:#f3f3f3}path{fill:none;stroke:#777;stroke-width:1.1}"
)
_ARROW = (
    '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" style="fill:#777;stroke:none"/></marker></defs>'
)


def mermaid(steps: Sequence[Step], *, live: frozenset[str] = frozenset(), mode: Mode = Mode.GRACEFUL) -> str:
    """The steps as a Mermaid flowchart. Thick: changes what is live; dashed: left out in this variant."""
    drawn = _drawn(steps)
    short = {step.id: f"s{number}" for number, step in enumerate(steps)}
    boxes = [f'  {short[step.id]}["{step.id}<br/><small>{_under(step)}</small>"]' for step in steps]
    lines = ["flowchart TD", *boxes]
    lines += [f"  {short[need]} --> {short[step.id]}" for step in steps for need in drawn[step.id]]
    named = [(short[step.id], _kind(step, live, mode)) for step in steps]
    lines += ["  classDef live stroke-width:3px", "  classDef omitted stroke-dasharray:4 3,color:#888"]
    lines += [f"  class {name} {kind}" for name, kind in named if kind in ("live", "omitted")]
    return "\n".join(lines) + "\n"


def svg(steps: Sequence[Step], *, title: str, live: frozenset[str] = frozenset(), mode: Mode = Mode.GRACEFUL) -> str:
    """The steps as one SVG document: no fonts, scripts or links from elsewhere."""
    drawn = _drawn(steps)
    places, width, height = _layout(steps, drawn)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        _ARROW,
    ]
    for step in steps:
        x, y = places[step.id]
        lines += [_line(places[need], (x, y)) for need in drawn[step.id]]
    for step in steps:
        x, y = places[step.id]
        middle = x + _WIDTH // 2
        lines.append(
            f'<g><rect class="{_kind(step, live, mode)}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
            f'<text x="{middle}" y="{y + 19}" text-anchor="middle">{escape(_short(step.id))}</text>'
            f'<text class="verb" x="{middle}" y="{y + 35}" text-anchor="middle">{escape(_short(_under(step)))}</text>'
            "</g>"
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _kind(step: Step, live: frozenset[str], mode: Mode) -> str:
    if "omitted" in step.arguments_in(mode):
        return "omitted"
    if step.id in live:
        return "live"
    return "always" if step.always else "plain"


def _under(step: Step) -> str:
    return f"{step.verb} {step.resource}"


def _short(text: str) -> str:
    return text if len(text) <= 28 else f"{text[:27]}…"


def _line(begin: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = begin[0] + _WIDTH // 2, begin[1] + _HEIGHT
    x2, y2 = end[0] + _WIDTH // 2, end[1]
    bend = (y2 - y1) // 2
    return f'<path d="M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}" marker-end="url(#end)"/>'


def _drawn(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """The needs that are drawn: those that no other need of the same step implies."""
    far: dict[str, frozenset[str]] = {}
    for step in in_order(steps):
        far[step.id] = frozenset(step.needs).union(*(far[need] for need in step.needs))
    return {
        step.id: tuple(need for need in step.needs if not any(need in far[other] for other in step.needs))
        for step in steps
    }


def _layout(steps: Sequence[Step], needs: Mapping[str, Sequence[str]]) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Each step's upper left corner, and the size of the whole."""
    layers = groups(steps)
    widest = max(len(layer) for layer in layers)
    width = 2 * _EDGE + widest * _WIDTH + (widest - 1) * _ACROSS
    places: dict[str, tuple[int, int]] = {}
    for depth, layer in enumerate(layers):
        ordered = sorted(layer, key=lambda name: _middle(needs[name], places))  # stable: ties stay as they were written
        left = (width - len(layer) * _WIDTH - (len(layer) - 1) * _ACROSS) // 2
        for column, name in enumerate(ordered):
            places[name] = (left + column * (_WIDTH + _ACROSS), _EDGE + depth * (_HEIGHT + _DOWN))
    return places, width, 2 * _EDGE + len(layers) * _HEIGHT + (len(layers) - 1) * _DOWN


def _middle(needs: Sequence[str], places: Mapping[str, tuple[int, int]]) -> float:
    return sum(places[need][0] for need in needs) / len(needs) if needs else 0.0
