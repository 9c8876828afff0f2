"""Rows of measurements as lines, as a table in Markdown, as JSON and as a chart in SVG."""

import json
import os
import platform
import time

import measure
import place

FIGURES = [("cpu_ms", "CPU ms", "{:.3f}"), ("resumed_ms", "resumed CPU ms", "{:.3f}"), ("per_s", "per second", "{:.0f}"), ("greeted", "greeted", "{:.0f}"),
           ("greeted_s", "greeted s", "{:.2f}"), ("served", "served", "{:.0f}"), ("idle_pss_mib", "idle PSS MiB", "{:.1f}"),
           ("pss_mib", "PSS MiB", "{:.1f}"), ("drops", "drops", "{:.0f}")]


def figures(row):
    """{figure: (median, spread in percent)} of a row."""
    found = {}
    for key, _, _ in FIGURES:
        values = [run[key] for run in row["runs"] if key in run]
        if values:
            found[key] = (measure.median(values), measure.spread(values))
    return found


def label(row):
    many = f" {row['sessions']}" if row["workload"] == "W4" else ""
    return f"{row['workload']}{many}"


def line(row):
    found = figures(row)
    parts = [f"{head} {form.format(found[key][0])} ±{found[key][1]:.0f}%" for key, head, form in FIGURES if key in found]
    return f"{label(row):8} {row['server']:10} {row['queue']:8} " + ", ".join(parts)


def table(rows):
    heads = ["workload", "server", "queue"] + [head for _, head, _ in FIGURES]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in sorted(rows, key=label):
        found = figures(row)
        cells = [label(row), row["server"], row["queue"]]
        for key, _, form in FIGURES:
            cells.append(f"{form.format(found[key][0])} ±{found[key][1]:.0f}%" if key in found else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def chart(rows):
    """Horizontal bars of the CPU time per message, a group for each workload, on a logarithmic scale."""
    import math
    bars = [(label(row), f"{row['server']}, {row['queue']}", figures(row)["cpu_ms"][0])
            for row in sorted(rows, key=label) if "cpu_ms" in figures(row)]
    if not bars:
        return None
    least, most = min(bar[2] for bar in bars) / 2, max(bar[2] for bar in bars)
    wide = lambda value: 20 + 420 * math.log(value / least) / math.log(most / least)
    parts, y, group = [], 34, None
    for workload, name, value in bars:
        if workload != group:
            group, y = workload, y + 14
            parts.append(f'<text x="8" y="{y}" font-weight="bold">{workload}</text>')
            y += 8
        colour = "#c0392b" if name.startswith("qpsmtpd") else "#7f8c8d"
        parts.append(f'<text x="200" y="{y + 11}" text-anchor="end">{name}</text>'
                     f'<rect x="208" y="{y}" width="{wide(value):.0f}" height="14" fill="{colour}"/>'
                     f'<text x="{214 + wide(value):.0f}" y="{y + 11}">{value:.3g}</text>')
        y += 19
    title = '<text x="8" y="22" font-size="14">CPU ms of the server per message (logarithmic)</text>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{y + 10}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="white"/>{title}{"".join(parts)}</svg>\n')


def write(rows, asked):
    text = table(rows)
    print("\n" + text)
    if not asked.out:
        return
    results = place.HERE / "results"
    results.mkdir(exist_ok=True)
    about = {"date": time.strftime("%Y-%m-%d"), "kernel": platform.release(), "cpus": os.cpu_count(),
             "runs": asked.runs, "scale": asked.scale}
    (results / f"{asked.out}.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    head = ", ".join(f"{key} {value}" for key, value in about.items())
    (results / f"{asked.out}.md").write_text(f"{head}; median ± half the range\n\n{text}")
    if drawn := chart(rows):
        (results / f"{asked.out}.svg").write_text(drawn)
