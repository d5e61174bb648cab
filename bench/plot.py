# SPDX-License-Identifier: MIT
"""The bench's bar chart: each row's time as a multiple of native, on a logarithmic axis. Writes SVG text by hand."""
import math
from xml.sax.saxutils import escape

BARS = [("tcg", "QEMU TCG", "#b0b7c3"), ("anyvisor", "Anyvisor", "#2f6fb4")]
LEFT, WIDTH, BAR, GAP, TOP = 130, 560, 9, 10, 70


def scale(values):
    """Whole decades around all values and 1, which is native."""
    low = math.floor(min(0, *(math.log10(v) for v in values)))
    high = math.ceil(max(1, *(math.log10(v) for v in values)))
    return low, high, lambda v: LEFT + WIDTH * (math.log10(v) - low) / (high - low)


def text(x, y, content, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{escape(content)}</text>'


def chart(table, columns, geometric, about):
    bars = [b for b in BARS if b[0] in columns]
    rows = [(name, {c: cells[c]["ns"] / cells["native"]["ns"] for c, _, _ in bars}) for name, cells in table.items()
            if name in geometric["rows"]]
    if geometric["means"] and bars:
        rows.append(("geometric mean", {c: geometric["means"][f"{c}/native"] for c, _, _ in bars}))
    values = [v for _, cells in rows for v in cells.values()] or [1]
    low, high, x = scale([1, *values])
    step = BAR * len(bars) + GAP
    bottom = TOP + step * len(rows)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{bottom + 50}" '
           'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>',
           text(10, 20, "Time as a multiple of native (shorter is faster)", 'font-size="14" font-weight="bold"'),
           text(10, 37, f"{about['cpu']}, Linux {about['host_kernel']}, QEMU {about['qemu']}, {about['guest_kernel']}",
                'fill="#555"')]
    for i, (_, title, colour) in enumerate(bars):
        out.append(f'<rect x="{LEFT + 110 * i}" y="47" width="10" height="10" fill="{colour}"/>')
        out.append(text(LEFT + 110 * i + 15, 56, title))
    for decade in range(low, high + 1):
        at = x(10 ** decade)
        colour = "#444" if decade == 0 else "#ddd"
        out.append(f'<line x1="{at:.1f}" y1="{TOP - 4}" x2="{at:.1f}" y2="{bottom}" stroke="{colour}"/>')
        out.append(text(at, bottom + 15, "native" if decade == 0 else f"{10.0 ** decade:g}x", 'text-anchor="middle"'))
    for n, (name, cells) in enumerate(rows):
        y = TOP + step * n
        weight = ' font-weight="bold"' if name == "geometric mean" else ""
        out.append(text(LEFT - 8, y + step / 2, name, 'text-anchor="end"' + weight))
        for i, (c, _, colour) in enumerate(bars):
            a, b = sorted((x(1), x(cells[c])))
            out.append(f'<rect x="{a:.1f}" y="{y + BAR * i}" width="{max(b - a, 1):.1f}" height="{BAR - 1}" fill="{colour}"/>')
            out.append(text(b + 4, y + BAR * i + BAR - 1, f"{cells[c]:.3g}", 'font-size="8" fill="#333"'))
    return "\n".join(out) + "\n</svg>\n"
