"""What a notebook shows of an explanation."""

from html import escape
from numbers import Real

import numpy as np

from .._data.categories import is_missing

__all__ = ["NEGLIGIBLE", "card", "expected_text", "value_text"]

# The code is not shown if its share of the score is smaller.
NEGLIGIBLE = 0.005
# So many rows, so many columns of each, and so many normal rows beside it.
_ROWS, _COLUMNS, _NEAREST = 10, 5, 3
# Colours as in the displays; those of bars are so pale that text is readable on them.
_FEATURE, _CODE = "#d1495b80", "#8a8f9880"
_NORMAL, _VALUE, _EXPECTED = "#8a8f98", "#d1495b", "#30638e"
# Size of a histogram in pixels, and its number of bins.
_WIDTH, _HEIGHT, _BINS = 120, 26, 24


def card(explanation):
    """Return the HTML of an explanation: a table, without scripts or files."""
    found = explanation
    n_rows, n_features = found.share.shape
    order = np.argsort(-found.share, axis=1, kind="stable")[:, :_COLUMNS]
    normal = found.normal_rows
    lines = []
    for i in range(min(n_rows, _ROWS)):
        near = [] if normal is None else nearest(found.value[i], normal)[:_NEAREST]
        cells = []
        for j in order[i]:
            value, expected = found.value[i, j], found.expected[i, j]
            texts = (
                str(found.feature_names[j]),
                value_text(value),
                expected_text(expected),
            )
            line = "".join(f"<td>{escape(text)}</td>" for text in texts)
            if normal is not None:
                column = normal[:, j]
                values = ", ".join(value_text(v) for v in column[near])
                line += f"<td>{_distribution(column, value, expected)}</td>"
                line += f"<td>{escape(values)}</td>"
            cells.append(line + _bar(found.share[i, j], _FEATURE))
        if found.code_share[i] >= NEGLIGIBLE:
            empty = "<td></td>" * (2 if normal is None else 4)
            cells.append(f"<td>code</td>{empty}" + _bar(found.code_share[i], _CODE))
        row = f'<th rowspan="{len(cells)}">{escape(str(found.index[i]))}</th>'
        for cell in cells:
            lines.append(f"<tr>{row}{cell}</tr>")
            row = ""
    titles = ["row", "feature", "value", "expected"]
    if normal is not None:
        titles += ["normal rows", "nearest normal rows"]
    head = "".join(f"<th>{title}</th>" for title in titles)
    head += '<th style="min-width:10em">share of the score</th>'  # room for bars
    caption = (
        f"{min(n_rows, _ROWS)} of {n_rows} rows, "
        f"{min(n_features, _COLUMNS)} of {n_features} features"
    )
    if normal is not None:
        caption += (
            f". Grey: {len(normal)} training rows; "
            f'<span style="color:{_VALUE}">red: the value</span>; '
            f'<span style="color:{_EXPECTED}">blue: what was expected</span>'
        )
    return (
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def nearest(row, normal):
    """Return the positions of normal rows, the nearest to a row first.

    Numbers differ in units of the standard deviation of the column, categories by one
    or not at all, and values that are missing not at all.
    """
    total = np.zeros(len(normal))
    for value, column in zip(row, normal.T, strict=True):
        if is_missing(value):
            continue
        try:
            number, numbers = float(value), column.astype(float)
        except (TypeError, ValueError):
            total += column != value
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.nanstd(numbers)
            distance = ((numbers - number) / (unit if unit > 0 else 1.0)) ** 2
        total += np.nan_to_num(distance)
    return np.argsort(total, kind="stable")


def value_text(value):
    """Return a value as text, a number with at least three significant digits."""
    if is_missing(value):
        return "missing"
    if not isinstance(value, Real) or isinstance(value, bool):
        return str(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def expected_text(value):
    """Return an expected value as text; None is a missing category.

    NaN is a number outside the range of the inverse of a step.
    """
    if value is not None and is_missing(value):
        return "unknown"
    return value_text(value)


def _bar(share, colour):
    """Return a cell with a share as text, in front of a bar of this length."""
    end = f"{np.clip(np.nan_to_num(share), 0, 1):.0%}"
    bar = f"linear-gradient(90deg,{colour} {end},transparent {end})"
    return f'<td style="background:{bar}">{share:.0%}</td>'


def _distribution(column, value, expected):
    """Return a histogram of a column, or the shares of two of its categories."""
    try:
        numbers = column.astype(float)
    except (TypeError, ValueError):
        shares = {value_text(v): np.mean(column == v) for v in (value, expected)}
        return escape(", ".join(f"{share:.0%} {v}" for v, share in shares.items()))
    marks = [("expected", expected, _EXPECTED), ("value", value, _VALUE)]
    marks = [(name, float(at), colour) for name, at, colour in marks if _is_finite(at)]
    least, most = numbers.min(), numbers.max()
    # A wild value does not squeeze the others into one bin: it stands at the margin.
    width = most - least
    low = max(min([least, *(at for _, at, _ in marks)]), least - width)
    high = min(max([most, *(at for _, at, _ in marks)]), most + width)
    span = high - low if high > low else 1.0
    counts, _ = np.histogram(numbers, bins=_BINS, range=(low, low + span))
    # What is there can be seen.
    heights = np.where(counts, 1 + (_HEIGHT - 5) * counts / counts.max(), 0)
    steps = "".join(f"V{_HEIGHT - h:.0f}h{_WIDTH // _BINS}" for h in heights)
    parts = [f'<path d="M0 {_HEIGHT}{steps}V{_HEIGHT}Z" fill="{_NORMAL}"/>']
    for name, at, colour in marks:
        x = 1 + (_WIDTH - 2) * np.clip((at - low) / span, 0, 1)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" stroke="{colour}" '
            f'stroke-width="2"><title>{name}: {value_text(at)}</title></line>'
        )
    described = f"{value_text(least)} to {value_text(most)}"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">'
        f"<title>{described}</title>{''.join(parts)}</svg>"
    )


def _is_finite(value):
    return not is_missing(value) and bool(np.isfinite(float(value)))
