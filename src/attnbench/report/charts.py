"""Rows to Vega-Lite charts by altair: no statistics and no words here. Text takes the colour of the page around it."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

PALETTE = ["#3b82c4", "#e07b28", "#2a9d6f", "#c75f9b", "#b58b00", "#7a6fd0", "#c2483d", "#5f8a99", "#8d8d8d", "#6a9a1f"]
"""Told apart by most eyes, on light and on dark ground."""
INK = "currentColor"

MOST_BANDS = 6

GREY = "#98a1a9"
MOST_COLOURS = len(PALETTE)
COLOURED = 8
"""So many of more arms than there are colours have one; the others are grey."""

Rows = Sequence[dict[str, Any]]
Spec = dict[str, Any]
_ROWS = alt.Chart(alt.NamedData("rows"))
_INK = alt.ColorValue(INK)
"""Channels are written as objects: altair compares a bare text or value with its whole schema, at 8 ms each."""


def intervals(
    rows: Rows, row: str, order: list[str], title: str, marks: Sequence[float] = (), by: str = "", log: bool = False
) -> Spec:
    """Points with intervals, one line each: `mean`, `low`, `high` of every `row`, beside each other by `by`.

    Args:
        marks: where dashed lines stand, beside the line at 0 (on a logarithmic scale at 1).
    """
    y: dict[str, Any] = {"y": alt.Y(field=row, type="nominal", title=None, sort=order)}
    groups = list(dict.fromkeys(str(each[by]) for each in rows)) if by else []
    if by:
        y["yOffset"] = alt.YOffset(field=by, type="nominal", sort=groups)
    colour = _colour(by, groups) if by else alt.ColorValue(PALETTE[0])
    scale = alt.Scale(type="log") if log else alt.Undefined
    base = _ROWS.encode(color=colour, tooltip=_tooltip(rows), **y)
    spans = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, scale=scale), x2=alt.X2("high:Q"))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("mean:Q"))
    zero = alt.Chart(alt.NamedData("zero")).mark_rule(opacity=0.9).encode(x=alt.X("at:Q"), color=_INK)
    dashed = alt.Chart(alt.NamedData("marks")).mark_rule(strokeDash=[4, 4], opacity=0.6)
    upright = [zero, *([dashed.encode(x=alt.X("at:Q"), color=_INK)] if marks else [])]
    each = (16 if len(groups) < 4 else 9) * max(1, len(groups)) + 12
    return _styled(
        alt.layer(*upright, spans, dots),
        30 + each * len({one[row] for one in rows}),
        rows=rows,
        zero=[{"at": 1.0 if log else 0.0}],
        marks=[{"at": place} for place in marks],
    )


def strip(rows: Rows, means: Rows, order: list[str], title: str) -> Spec:
    """Every `value` of an `arm` as a point, and a line at each arm's `mean`."""
    y = alt.Y("arm:N", title=None, sort=order)
    dots = _ROWS.mark_point(filled=True, size=45, opacity=0.6).encode(
        x=alt.X("value:Q", title=title, scale=alt.Scale(zero=False)),
        y=y,
        color=alt.ColorValue(PALETTE[0]),
        tooltip=_tooltip(rows),
    )
    ticks = (
        alt.Chart(alt.NamedData("means"))
        .mark_tick(thickness=2, size=22)
        .encode(x=alt.X("mean:Q"), y=y, color=_INK, tooltip=_tooltip(means))
    )
    return _styled(alt.layer(dots, ticks), 30 + 24 * len(order), rows=rows, means=means)


def lines(rows: Rows, order: list[str], title: str) -> Spec:
    """`mean` over `epoch` of each `arm`; `split` (train, val) tells lines apart.

    A band goes from `low` to `high` where there are few enough arms to tell bands apart.
    """
    scale = alt.Scale(zero=False)
    epoch = alt.X("epoch:Q", title="epoch", axis=_whole([row["epoch"] for row in rows]))
    base = _ROWS.encode(x=epoch, color=_colour("arm", order), detail=alt.Detail(field="arm", type="nominal"))
    dash = alt.StrokeDash("split:N", sort=["train", "val"], legend=_legend() if _several(rows, "split") else None)
    y = alt.Y("mean:Q", title=title, scale=scale)
    both = [alt.Detail(field="arm", type="nominal"), alt.Detail(field="split", type="nominal")]
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title=title, scale=scale), y2=alt.Y2("high:Q"), detail=both
    )
    middle = base.mark_line().encode(y=y, strokeDash=dash)
    dots = base.mark_point(filled=True, size=22, opacity=1).encode(y=y, tooltip=_tooltip(rows))
    return _styled(alt.layer(*([band] if len(order) <= MOST_BANDS else []), middle, dots), 230, rows=rows)


def curves(rows: Rows, order: list[str], across: str, up: str, marks: Sequence[float] = ()) -> Spec:
    """`y` over `x` of each `curve`, titled `up` and `across`; dashed lines stand at the heights `marks`."""
    axis = _whole([row["x"] for row in rows]) if isinstance(rows[0]["x"], int) else alt.Undefined
    x = alt.X("x:Q", title=across, axis=axis)
    base = _ROWS.encode(x=x, y=alt.Y("y:Q", title=up, scale=alt.Scale(zero=False)), color=_colour("curve", order))
    dashed = alt.Chart(alt.NamedData("marks")).mark_rule(strokeDash=[4, 4], opacity=0.6)
    across_at = dashed.encode(y=alt.Y("at:Q"), color=_INK)
    drawn = [*([across_at] if marks else []), base.mark_line(interpolate="monotone")]
    return _styled(alt.layer(*drawn), 240, rows=rows, marks=[{"at": at} for at in marks])


def front(rows: Rows, order: list[str], title: str) -> Spec:
    """`accuracy` (with `low`, `high`) against `seconds`, and a line through those that are `front`."""
    x = alt.X("seconds:Q", title=title, scale=alt.Scale(zero=False, padding=12))
    scale = alt.Scale(zero=False, padding=8)
    base = _ROWS.encode(x=x, color=_colour("arm", order), tooltip=_tooltip(rows))
    best = alt.Chart(alt.NamedData("front")).mark_line(opacity=0.6, strokeDash=[2, 3])
    path = best.encode(x=x, y=alt.Y("accuracy:Q", scale=scale), color=_INK)
    spans = base.mark_rule(opacity=0.7).encode(
        y=alt.Y("low:Q", title="test accuracy (%)", scale=scale), y2=alt.Y2("high:Q")
    )
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(y=alt.Y("accuracy:Q", scale=scale))
    return _styled(alt.layer(path, spans, dots), 260, rows=rows, front=[row for row in rows if row["front"]])


def reliability(rows: Rows, order: list[str]) -> Spec:
    """`accuracy` against `confidence` in each bin of each arm, both in percent; the diagonal is perfect calibration.

    A point's area grows with the `share` of the images that are in its bin.
    """
    ends = [{"confidence": at, "accuracy": at} for at in (0, 100)]
    x = alt.X("confidence:Q", title="mean confidence (%)", scale=alt.Scale(domain=[0, 100]))
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(domain=[0, 100]))
    ideal = alt.Chart(alt.NamedData("ends")).mark_line(strokeDash=[4, 4], opacity=0.6).encode(x=x, y=y, color=_INK)
    base = _ROWS.encode(x=x, y=y, color=_colour("arm", order), tooltip=_tooltip(rows))
    grown = alt.Size(field="share", type="quantitative", scale=alt.Scale(range=[8, 260]), legend=None)
    path = base.mark_line().encode(detail=alt.Detail(field="arm", type="nominal"))
    return _styled(
        alt.layer(ideal, path, base.mark_point(filled=True, opacity=0.8).encode(size=grown)), 280, rows=rows, ends=ends
    )


def confusion(rows: Rows, order: list[str]) -> Spec:
    """A heat map of `percent` over classes as they are (`true`) and as they are `told`, darker by `wrong`."""
    x = alt.X("told:N", title="taken for", sort=order, axis=alt.Axis(labelAngle=-40, orient="top"))
    base = _ROWS.encode(x=x, y=alt.Y("true:N", title="is", sort=order), tooltip=_tooltip(rows))
    shade = alt.Color(field="wrong", type="quantitative", scale=alt.Scale(scheme="blues"), legend=None)
    texts = base.mark_text(fontSize=10).encode(text=alt.Text("percent:Q", format=".1f"), color=_INK)
    return _styled(alt.layer(base.mark_rect(opacity=0.45).encode(color=shade), texts), 60 + 26 * len(order), rows=rows)


def critical_difference(points: Rows, bars: Rows, critical: float) -> Spec:
    """Mean `rank` of each `arm`, and below them a bar from `low` to `high` for each group that is not told apart."""
    groups = [{"arm": "not told apart" + " " * place, **bar} for place, bar in enumerate(bars)]  # rows of their own
    ruler = [{"arm": "critical difference", "low": 1.0, "high": 1.0 + critical}]
    order = [str(row["arm"]) for row in (*ruler, *points, *groups)]
    y = alt.Y("arm:N", title=None, sort=order)  # one scale only if all layers say the same
    x = alt.X("rank:Q", title="mean rank (1 is the best)", scale=alt.Scale(zero=False, nice=False, padding=12))
    dots = _ROWS.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, color=alt.ColorValue(PALETTE[0]), tooltip=_tooltip(points)
    )
    ends = {"x": alt.X("low:Q"), "x2": alt.X2("high:Q"), "y": y, "color": _INK}
    bar = alt.Chart(alt.NamedData("groups")).mark_rule(strokeWidth=5, opacity=0.7).encode(**ends)
    rule = alt.Chart(alt.NamedData("ruler")).mark_rule(strokeWidth=2).encode(**ends)
    return _styled(alt.layer(rule, dots, bar), 30 + 22 * len(order), rows=points, groups=groups, ruler=ruler)


def static(spec: Spec, width: int = 640) -> tuple[str, bytes]:
    """The same chart as SVG and as PDF, on white; in a picture nobody asks a single point for its numbers."""
    mute = {**spec["config"], "aria": False}
    svg: str = vl_convert.vegalite_to_svg({**spec, "width": width, "background": "white", "config": mute})
    return svg, vl_convert.svg_to_pdf(svg.replace(INK, "black"))


def _whole(values: Sequence[int]) -> alt.Axis:
    """An axis of whole numbers, of which each tick is one; about ten of them."""
    every = sorted(set(values))
    return alt.Axis(values=every[:: 1 + len(every) // 11], format="d")


def _tooltip(rows: Rows) -> list[alt.Tooltip]:
    """Everything that a row holds."""
    numbers = {name: isinstance(value, float) for name, value in rows[0].items()}
    return [
        alt.Tooltip(field=name, type="quantitative", format=".2f")
        if number
        else alt.Tooltip(field=name, type="nominal")
        for name, number in numbers.items()
    ]


def coloured(order: list[str]) -> list[str]:
    """Those that have a colour of their own: all, or of many the first."""
    return order if len(order) <= MOST_COLOURS else order[:COLOURED]


def _colour(field: str, order: list[str]) -> alt.Color:
    """A colour for each of `coloured(order)`, which alone stand in the legend, and grey for the others."""
    told = coloured(order)
    scale = alt.Scale(domain=told, range=PALETTE[: len(told)])
    if len(told) == len(order):
        return alt.Color(field=field, type="nominal", scale=scale, legend=_legend())
    own = {"test": {"field": field, "oneOf": told}, "field": field, "type": "nominal", "scale": scale}
    return alt.Color(condition={**own, "legend": _legend()}, value=GREY)


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", columns=3, labelLimit=160, symbolType="circle", symbolOpacity=1)


def _several(rows: Rows, name: str) -> bool:
    return len({row[name] for row in rows}) > 1


def _styled(chart: alt.LayerChart | alt.FacetChart, height: int, **data: Rows) -> Spec:
    """As wide as the page lets it be, without a ground of its own, in the page's colour of text; the data once."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    lines = {"gridOpacity": 0.15, "gridColor": INK, "domainColor": INK, "tickColor": INK, "labelLimit": 170}
    fitting = {"labelOverlap": "greedy", "labelFlush": False, "labelSeparation": 8}
    spec: Spec = chart.properties(height=height).to_dict(validate=False)
    config = {
        "font": "system-ui, sans-serif",
        "axis": {**text, **lines},
        "axisQuantitative": fitting,
        "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12},
        "view": {"stroke": None},
    }
    datasets = {name: [_short(row) for row in rows] for name, rows in data.items()}
    room = {"left": 5, "top": 5, "bottom": 5, "right": 16}  # for the half of a last label that stands over the edge
    about = {"width": "container", "background": "transparent", "padding": room, "config": config}
    return {**spec, **about, "datasets": datasets}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a length that is read: what a page shows to two decimals needs no sixteen."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}
