"""What a soak has shown: slopes, a table per minute, a verdict, and a chart."""

import json
import os
import platform
import time

import place

# KiB per minute by which a daemon may grow, by default: some 15 bytes for each of 2,500 sessions.
BOUND = 40


def slope(points):
    """Slope of a line through (x, y) by least squares, and its standard error."""
    count = len(points)
    if count < 3:
        return 0.0, 0.0
    mean_x, mean_y = (sum(values) / count for values in zip(*points))
    wide = sum((x - mean_x) ** 2 for x, _ in points)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points) / wide
    rest = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in points)
    return rise, (rest / (count - 2) / wide) ** 0.5


def grown(samples, warm, value):
    """By how much `value` of a sample grows per minute and per 1,000 messages, after the warm-up, with the errors."""
    counted = [row for row in samples if row["t"] >= warm and not row["resting"]]
    minute, error = slope([(row["t"] / 60, value(row)) for row in counted])
    thousand, _ = slope([(row["messages"] / 1000, value(row)) for row in counted])
    return {"per_minute": round(minute, 2), "error": round(error, 2), "per_1000_messages": round(thousand, 2)}


def of_kind(kind, key):
    return lambda row: row["kinds"].get(kind, {}).get(key, 0)


VALUES = {
    "pss": lambda row: row["pss"], "pss_master": of_kind("master", "pss"), "pss_workers": of_kind("worker", "pss"),
    "anon_master": of_kind("master", "anon"), "anon_workers": of_kind("worker", "anon"),
    "fds": lambda row: sum(kind["fds"] for kind in row["kinds"].values()),
}


def judge(run, warm, bound):
    """Slopes of a run, and all that is wrong with it."""
    samples = run["samples"]
    slopes = {name: grown(samples, warm, value) for name, value in VALUES.items()}
    middle = (warm + samples[-1]["t"]) / 2
    late = {name: grown(samples, middle, value) for name, value in VALUES.items()}
    wrong = list(run["faults"])
    # A slope that its own error could explain is none. What is kept for use again grows ever more slowly; what each
    # session leaves behind does not slow down.
    surely = lambda slope: slope["per_minute"] - 2 * slope["error"] > bound
    for name in ("pss", "pss_master"):
        if surely(slopes[name]) and surely(late[name]):
            wrong.append(f"{name} grows by {slopes[name]['per_minute']} KiB per minute, by {late[name]['per_minute']} in "
                         "the last half")
    slopes |= {f"{name}, last half": late[name] for name in ("pss", "pss_master")}
    resting = [row for row in samples if row["resting"] == "rested"]
    if len(resting) > 1:
        first, last = resting[0], resting[-1]
        for kind in first["kinds"]:
            before, after = first["kinds"][kind]["most_fds"], last["kinds"].get(kind, {}).get("most_fds", 0)
            if after > before:
                wrong.append(f"a process of kind {kind} had {before} descriptors at rest and has {after} at the end")
        for what in ("spool", "tmp"):
            if last[what] > first[what]:
                wrong.append(f"{last[what] - first[what]} files more in {what} at rest")
    return slopes, wrong


def table(run):
    """A line per minute."""
    lines = ["| minute | messages | PSS KiB | master | workers | largest | descriptors | largest | threads | spool | tmp |",
             "|" + "---|" * 11]
    minutes = {}
    for row in run["samples"]:
        if not row["resting"]:
            minutes.setdefault(int(row["t"] // 60), []).append(row)
    for minute, rows in minutes.items():
        mean = lambda value: f"{sum(map(value, rows)) / len(rows):.0f}"
        most = lambda value: max(map(value, rows))
        cells = [minute, rows[-1]["messages"], *(mean(VALUES[name]) for name in ("pss", "pss_master", "pss_workers")),
                 most(of_kind("worker", "most_pss")), mean(VALUES["fds"]), most(of_kind("worker", "most_fds")),
                 mean(lambda row: sum(kind["threads"] for kind in row["kinds"].values())),
                 most(lambda row: row["spool"]), most(lambda row: row["tmp"])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def summary(run):
    """A run in words."""
    account, slopes = run["account"], run["slopes"]
    lines = [f"{', '.join(f'{count} {what}' for what, count in account.items())}; "
             f"{sum(run['outcomes'].values())} sessions of {len({key.split(':')[0] for key in run['outcomes']})} kinds"]
    lines += [f"{name}: {found['per_minute']} ± {found['error']} per minute, {found['per_1000_messages']} per 1,000 messages"
              for name, found in slopes.items()]
    for row in run["samples"]:
        if row["resting"] == "rested":
            workers = row["kinds"].get("worker", {"count": 0, "pss": 0, "most_fds": 0})
            lines.append(f"at rest after {row['t'] / 60:.1f} minutes: PSS {row['pss']} KiB, of it {workers['count']} workers "
                         f"{workers['pss']}, at most {workers['most_fds']} descriptors in one")
    lines += [f"WRONG: {what}" for what in run["wrong"][:20]] or ["nothing wrong"]
    return "".join(f"- {line}\n" for line in lines)


def chart(runs, warm):
    """PSS over time, a line for each daemon."""
    colours = ("#c0392b", "#2c3e50", "#27ae60", "#8e44ad")
    points = {run["name"]: [(row["t"] / 60, row["pss"] / 1024) for row in run["samples"] if not row["resting"]]
              for run in runs}
    long = max(x for line in points.values() for x, _ in line)
    high = max(y for line in points.values() for _, y in line) * 1.15
    at = lambda x, y: f"{60 + 640 * x / long:.1f},{330 - 290 * y / high:.1f}"
    parts = ['<text x="8" y="22" font-size="14">PSS of all processes of a daemon under mixed traffic, MiB</text>']
    for step in range(5):
        y = high * step / 4
        parts.append(f'<polyline points="{at(0, y)} {at(long, y)}" stroke="#ddd" fill="none"/>'
                     f'<text x="52" y="{334 - 290 * step / 4:.0f}" text-anchor="end">{y:.0f}</text>')
        x = long * step / 4
        parts.append(f'<text x="{60 + 160 * step}" y="348" text-anchor="middle">{x:.0f} min</text>')
    parts.append(f'<polyline points="{at(warm / 60, 0)} {at(warm / 60, high)}" stroke="#bbb" stroke-dasharray="4" fill="none"/>')
    for colour, (name, line) in zip(colours, points.items()):
        parts.append(f'<polyline points="{" ".join(at(x, y) for x, y in line)}" stroke="{colour}" fill="none"/>'
                     f'<text x="706" y="{334 - 290 * line[-1][1] / high:.0f}" fill="{colour}">{name}</text>')
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="790" height="360" font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')


def write(runs, asked):
    """Prints what the runs have shown, and keeps it if asked to."""
    text = "".join(f"## {run['name']}\n\n`{run['shape']}`\n\n{summary(run)}\n{table(run)}\n" for run in runs)
    print(text)
    if not asked.out:
        return
    about = {"date": time.strftime("%Y-%m-%d"), "kernel": platform.release(), "cpus": os.cpu_count(),
             "seconds": asked.seconds, "warm": asked.warm, "rate": asked.rate}
    results = place.HERE / "results"
    head = ", ".join(f"{key} {value}" for key, value in about.items())
    (results / f"{asked.out}.md").write_text(f"{head}\n\n{text}".rstrip() + "\n")
    (results / f"{asked.out}.json").write_text(json.dumps({"about": about, "runs": runs}, separators=(",", ":")) + "\n")
    (results / f"{asked.out}.svg").write_text(chart(runs, asked.warm))
