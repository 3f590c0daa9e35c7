# SPDX-License-Identifier: GPL-2.0-only
"""What figures.py has measured, in words, as a table, as CSV and as a picture."""
import collections
import csv
import math
import os
import random
import statistics
import subprocess
import textwrap

from workloads import BARS, N, PICTURE, TOLD, WORKLOADS

# A row on one kernel: median, least and most of the rounds; the ratio of its median to
# base's with a 95 % interval from low to high; a verdict on the interval.
Fact = collections.namedtuple("Fact", "rounds median least most ratio low high verdict")
TOO_FEW = "too few rounds"


def ratio(base, values):
    """The ratio of two lists' medians. 0/0 is 1: neither ever waited."""
    below, above = statistics.median(base), statistics.median(values)
    if below == 0:
        return math.inf if above else 1.0
    return above / below


def judge(better, low, high, rounds):
    """What the interval of a ratio says. "no worse" is by 5 % at most."""
    if not better:
        return ""
    if rounds < 3:
        return TOO_FEW
    if low <= 0.8 and high >= 1.25:
        return "says nothing"
    if better == "more":
        low, high = 1 / max(high, 1e-9), 1 / max(low, 1e-9)
    if high < 1:
        return "better"
    if high <= 1.05:
        return "no worse"
    return "worse" if low > 1 else "unclear"


def fact(base, values, better):
    """The Fact of the rounds VALUES beside those of base, which may be none."""
    spread = len(values), statistics.median(values), min(values), max(values)
    if not base:
        return Fact(*spread, math.nan, math.nan, math.nan, "no base")
    draw = random.Random(1)
    again = sorted(ratio(draw.choices(base, k=len(base)), draw.choices(values, k=len(values)))
                   for _ in range(2000))
    low, high = again[50], again[1949]
    verdict = judge(better, low, high, min(len(base), len(values)))
    return Fact(*spread, ratio(base, values), low, high, verdict)


def facts_of(samples):
    """{(code, row, kernel): Fact} of {(code, row, kernel): [number of a round, ...]}."""
    return {(code, row, kernel): fact(samples.get((code, row, columns(code, ["base", *N])[0])),
                                      values, row.better)
            for (code, row, kernel), values in samples.items()}


def columns(code, kernels):
    """Those of KERNELS that the workload CODE is measured on, the one to compare with first."""
    own = WORKLOADS[code].kernels
    return [name for name in kernels if (name in own if own else name != N[0])]


def short(value):
    """A number in three digits, or more before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def duration(microseconds):
    """A time with a unit that suits it."""
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.3g} s"
    if microseconds >= 1000:
        return f"{microseconds / 1000:.3g} ms"
    return f"{microseconds:.3g} us"


def told(facts, code, kernel):
    """The Fact of the first row of a workload, or None."""
    return facts.get((code, WORKLOADS[code].rows[0], kernel))


def in_words(facts):
    """What the series changes, in five lines at most."""
    lines = []
    for code in PICTURE:
        base, series = told(facts, code, "base"), told(facts, code, "series")
        if base and series:
            lines.append(f"{WORKLOADS[code].words}: {duration(base.median)} on average today, "
                         f"{duration(series.median)} with the series")
    series = {f"{code.upper()} {row.words}": one.verdict
              for (code, row, kernel), one in facts.items()
              if kernel == "series" and one.verdict not in ("", TOO_FEW)}
    if not series:
        return lines or ["No row of the series was measured"]
    counts = collections.Counter(series.values()).most_common()
    worse = [words for words, verdict in series.items() if verdict == "worse"]
    return [*lines, "Rows of the series: "
            + ", ".join(f"{count} {verdict}" for verdict, count in counts)
            + (f"; worse: {'; '.join(worse)}" if worse else "")]


def table(facts, codes, kernels, brief):
    """The lines of the table; brief: the first rows of each workload alone."""
    lines = []
    for code in codes:
        names = columns(code, kernels)
        ours = "series" if "series" in names else N[2]
        lines += ["", " " * 38 + "".join(f"{kernel:>11}" for kernel in names)
                  + f"   {ours}/{names[0]} [95 % interval]",
                  f"{WORKLOADS[code].words} ({code.upper()})"]
        for row in WORKLOADS[code].rows[:TOLD if brief else None]:
            here = [facts.get((code, row, kernel)) for kernel in names]
            line = f"  {row.words:<36}"
            line += "".join(f"{short(one.median) if one else 'no sample':>11}" for one in here)
            one = facts.get((code, row, ours))
            if one:
                line += f"   {one.ratio:.3g}"
                if one.verdict != TOO_FEW:
                    line += f" [{one.low:.3g}, {one.high:.3g}] {one.verdict}"
            lines.append(line.rstrip())
    return lines


def write_csv(path, facts):
    """All there is, a line for each row and kernel."""
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(("workload", "row", "kernel", *Fact._fields))
        for (code, row, kernel), one in facts.items():
            figures = (f"{x:.5g}" if isinstance(x, float) else x for x in one)
            out.writerow((code, row.words, kernel, *figures))


def picture(path, facts):
    """Draw PATH.svg and PATH.png of the workloads of PICTURE, if there are samples."""
    codes = [code for code in PICTURE if told(facts, code, "base") and told(facts, code, "series")]
    if not codes:
        return
    kernels = [kernel for kernel in BARS if any(told(facts, code, kernel) for code in codes)]
    blocks = []
    for kernel in kernels:
        blocks.append(f'"{BARS[kernel]}"')
        for at, code in enumerate(codes):
            one = told(facts, code, kernel)
            label = r"\n".join(textwrap.wrap(WORKLOADS[code].words, 24))
            value = f'{one.median} "{duration(one.median)}"' if one else 'NaN ""'
            blocks.append(f'{at} {value} "{label}"')
        blocks.append("\n")
    with open(f"{path}.dat", "w", encoding="utf-8") as f:
        f.write("\n".join(blocks))
    less = sum(told(facts, code, "series").high < 1 for code in codes)
    headline = (f"In {less} of {len(codes)} cases a thread that changes the address space waits "
                "less for the page faults of others with the series")
    note = "Mean wait, median of the rounds; emulated CPUs show waiting, not speed"
    subprocess.run(["gnuplot", "-e", f"path='{path}'; bars={len(kernels)}; note='{note}'; "
                    f"headline='{headline}'", "lab/figures.gp"], check=True)
    os.remove(f"{path}.dat")
