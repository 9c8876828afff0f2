"""Rows of measurements as lines, as a table in Markdown, as JSON and as a chart in SVG."""

import json
import os
import platform
import time

import measure
import place

FIGURES = [("cpu_ms", "CPU ms", "{:.3f}"), ("resumed_ms", "resumed CPU ms", "{:.3f}"), ("resumed", "resumed", "{:.0f}"),
           ("per_s", "per second", "{:.0f}"), ("greeted", "greeted", "{:.0f}"), ("greeted_s", "greeted s", "{:.2f}"),
           ("served", "served", "{:.0f}"), ("of", "of", "{:.0f}"), ("idle_pss_mib", "idle PSS MiB", "{:.1f}"),
           ("pss_mib", "PSS MiB", "{:.1f}"), ("drops", "drops", "{:.0f}"), ("full", "out of memory", "{:.0f}")]
# Counts of what happened.
COUNTS = ("resumed", "greeted", "served", "of", "drops", "full")
# What the others are compared with.
OURS = "qpsmtpd"
# Of bars: ours, the original, and those of all others.
COLOURS = {"qpsmtpd": "#c0392b", "qpsmtpd-threads": "#c0392b", "qpsmtpd-perl": "#2471a3"}


def figures(row):
    """{figure: its values} of a row."""
    found = {key: [run[key] for run in row["runs"] if key in run] for key, _, _ in FIGURES}
    return {key: values for key, values in found.items() if values}


def label(row):
    many = f" {row['sessions']}" if row["workload"] == "W4" else ""
    return f"{row['workload']}{many}"


def cell(key, form, found):
    """The median, and the spread of figures or the range of counts."""
    values = found[key]
    middle = form.format(measure.median(values))
    if len(values) == 1 or key in COUNTS and min(values) == max(values):
        return middle
    return f"{middle} ({min(values)} to {max(values)})" if key in COUNTS else f"{middle} ±{measure.spread(values):.0f}%"


def line(row):
    found = figures(row)
    parts = [f"{head} {cell(key, form, found)}" for key, head, form in FIGURES if key in found]
    return f"{label(row):8} {row['server']:15} {row['queue']:8} " + ", ".join(parts)


def table(rows):
    """The rows that were measured, with the columns that any of them fills; below it what failed."""
    measured = sorted((row for row in rows if row["runs"]), key=order)
    filled = {key for row in measured for key in figures(row)}
    columns = [column for column in FIGURES if column[0] in filled]
    heads = ["workload", "server", "queue"] + [head for _, head, _ in columns]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in measured:
        found = figures(row)
        cells = [label(row), row["server"], row["queue"]]
        cells += [cell(key, form, found) if key in found else "" for key, _, form in columns]
        lines.append("| " + " | ".join(cells) + " |")
    failed = [f"- {label(row)}, {row['server']}, {row['queue']}: {row['failed']}" for row in rows if "failed" in row]
    return "\n".join(lines + ["", *failed] if failed else lines) + "\n"


def ratios(rows):
    """CPU time as a multiple of what this daemon takes with the same queue; None where that was not measured."""
    middle = {(row["server"], row["queue"], row["workload"]): measure.median(figures(row)["cpu_ms"])
              for row in rows if "cpu_ms" in figures(row)}
    workloads = sorted({workload for server, _, workload in middle if server == OURS})
    if len({server for server, _, _ in middle}) < 2 or not workloads:
        return None
    lines = ["| CPU time, " + OURS + " is 1 | " + " | ".join(workloads) + " |", "|---|" + "---|" * len(workloads)]
    for server, queue in dict.fromkeys((server, queue) for server, queue, _ in middle if server != OURS):
        both = [(middle.get((server, queue, workload)), middle.get((OURS, queue, workload))) for workload in workloads]
        cells = [f"{theirs / ours:.2g}" if theirs and ours else "" for theirs, ours in both]
        lines.append(f"| {server}, {queue} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def order(row):
    """By workload and, of W4, by the number of clients; else as measured."""
    return row["workload"], row["sessions"]


def chart(rows):
    """Horizontal bars of the CPU time per message, a group for each workload, on a logarithmic scale."""
    import math
    bars = [(label(row), f"{row['server']}, {row['queue']}", measure.median(figures(row)["cpu_ms"]))
            for row in sorted(rows, key=order) if "cpu_ms" in figures(row)]
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
        colour = COLOURS.get(name.split(",")[0], "#7f8c8d")
        parts.append(f'<text x="200" y="{y + 11}" text-anchor="end">{name}</text>'
                     f'<rect x="208" y="{y}" width="{wide(value):.0f}" height="14" fill="{colour}"/>'
                     f'<text x="{214 + wide(value):.0f}" y="{y + 11}">{value:.3g}</text>')
        y += 19
    title = '<text x="8" y="22" font-size="14">CPU ms of the server per message (logarithmic)</text>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{y + 10}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="white"/>{title}{"".join(parts)}</svg>\n')


def write(rows, asked):
    text = "\n".join(part for part in (table(rows), ratios(rows)) if part)
    print("\n" + text)
    if not asked.out:
        return
    results = place.HERE / "results"
    results.mkdir(exist_ok=True)
    about = {"date": time.strftime("%Y-%m-%d"), "kernel": platform.release(), "cpus": os.cpu_count(),
             "runs": asked.runs, "scale": asked.scale, "memory limit GiB": asked.memory}
    (results / f"{asked.out}.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    head = ", ".join(f"{key} {value}" for key, value in about.items())
    (results / f"{asked.out}.md").write_text(f"{head}; median ± half the range\n\n{text}")
    if drawn := chart(rows):
        (results / f"{asked.out}.svg").write_text(drawn)
