"""The picture: both runs over time, as one SVG without scripts, fonts or anything else from outside.

Two panels share one axis. Each column is half a second, each layer of it an outcome, and the bars above are the
troubles. It is written by hand because that is a hundred lines: a plotting library would be the largest dependency of
the demonstration.
"""

from __future__ import annotations

from html import escape

from examples.review_service.demo.figures import Run
from examples.review_service.demo.load import Outcome
from examples.review_service.demo.script import LENGTH, RATE, SCENES, TICK, Trouble

_COLOURS = {Outcome.FULL: "#2a9d5c", Outcome.PLAIN: "#e9b83a", Outcome.REFUSED: "#8e6bbf", Outcome.LATE: "#d1495b"}
_WIDTH, _LEFT, _RIGHT = 880, 64, 24
_PANEL, _GAP, _TOP = 180, 88, 138
_HEIGHT = _TOP + 2 * _PANEL + _GAP + 52


def svg(bare: Run, kept: Run) -> str:
    """The document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" role="img"',
        f'  viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui, sans-serif">',
        "<title>One outage, without and with the policies</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 30, "One outage, without and with the policies", size=19, weight="600"),
        *_legend(),
        *_panel(bare, _TOP),
        *_panel(kept, _TOP + _PANEL + _GAP),
        _text(_WIDTH - _RIGHT, _HEIGHT - 12, "seconds", anchor="end", colour="#555555"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend() -> list[str]:
    parts: list[str] = []
    for number, (outcome, colour) in enumerate(_COLOURS.items()):
        x, y = _LEFT + 340 * (number % 2), 46 + 20 * (number // 2)
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, y + 11, outcome.value, colour="#333333"))
    return parts


def _panel(run: Run, top: float) -> list[str]:
    full = RATE * TICK
    parts = [_text(_LEFT, top - 30, run.title, size=15, weight="600")]
    for scene in SCENES:
        if scene.trouble is not Trouble.NONE:
            start, end = _x(scene.start) + 1, _x(scene.end) - 1
            parts.append(_text((start + end) / 2, top - 12, scene.trouble.value, anchor="middle"))
            parts.append(f'<path d="M{start:.1f} {top - 6}H{end:.1f}" stroke="#111111" stroke-width="3"/>')
    for tick in range(round(LENGTH / TICK)):
        samples = run.tick(tick)
        base = top + _PANEL
        for outcome, colour in _COLOURS.items():
            count = sum(each.outcome is outcome for each in samples)
            height = _PANEL * count / full
            base -= height
            if count:
                x, width = _x(tick * TICK) + 1, _x(TICK) - _x(0) - 2
                parts.append(
                    f'<rect x="{x:.1f}" y="{base:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">'
                    f"<title>{tick * TICK:.1f} s: {count} {escape(outcome.value)}</title></rect>"
                )
    parts.append(f'<path d="M{_LEFT} {top + _PANEL}H{_WIDTH - _RIGHT}" stroke="#333333"/>')
    parts.append(_text(_LEFT - 8, top + 10, f"{RATE}/s", anchor="end", colour="#555555"))
    parts.append(_text(_LEFT - 8, top + _PANEL, "0", anchor="end", colour="#555555"))
    parts += [
        _text(_x(second), top + _PANEL + 18, str(second), anchor="middle", colour="#555555")
        for second in range(0, int(LENGTH) + 1, 2)
    ]
    return parts


def _x(seconds: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / LENGTH


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 13,
    anchor: str = "start",
    weight: str = "400",
    colour: str = "#111111",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
