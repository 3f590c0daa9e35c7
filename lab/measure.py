#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Measure on a real machine, and compare the kernels that have been booted there.

    measure.py run [CODE...]              as root: each workload three times
    measure.py compare [BASE SERIES]      releases, as uname -r says

The samples are kept in samples/RELEASE/ below the current folder. Take a machine that does
nothing else, and boot it again afterwards: the workloads change settings of the kernel.
Times are the machine's own, so boot each kernel twice or more, in turns.
"""
import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import report
from figures import numbers
from workloads import QUICK, WORKLOADS

ROUNDS = 3


def measure(codes):
    """Run the workloads on this kernel; SystemExit with what went wrong."""
    folder = Path("samples", os.uname().release)
    folder.mkdir(parents=True, exist_ok=True)
    for code in codes * ROUNDS:
        # A workload leaves a disk behind.
        made = subprocess.run(["unshare", "--mount", f"./{WORKLOADS[code].program}".split()[0],
                               *WORKLOADS[code].program.split()[1:]], text=True, check=False,
                              stdout=subprocess.PIPE)
        for swap in ("/dev/swap", "/dev/zram0"):
            subprocess.run(["swapoff", swap], check=False, stderr=subprocess.DEVNULL)
        # The programs' own; other disks of null_blk are the user's.
        for disk in (Path("/sys/kernel/config/nullb", name) for name in ("slow", "data", "swap")):
            if disk.exists():
                Path(disk, "power").write_text("0", encoding="utf-8")
                disk.rmdir()
        try:
            told = numbers(code, made.stdout)
        except ValueError as error:
            sys.exit(f"{code}: {error}; it said: {made.stdout}")
        path = folder / f"{code}-{len(list(folder.glob(f'{code}-*'))) + 1}"
        path.write_text(made.stdout, encoding="utf-8")
        row, value = next(iter(told.items()))
        print(f"{code}: {row.words}: {report.short(value)}", flush=True)


def compare(base, series):
    """Print the table of two releases."""
    samples = collections.defaultdict(list)
    for kernel, release in (("base", base), ("series", series)):
        for path in sorted(Path("samples", release).iterdir()):
            code = path.name.rpartition("-")[0]
            for row, value in numbers(code, path.read_text(encoding="utf-8")).items():
                samples[code, row, kernel].append(value)
    facts = report.facts_of(samples)
    codes = [code for code in WORKLOADS if any(key[0] == code for key in facts)]
    print(*report.in_words(facts), *report.table(facts, codes, ("base", "series"), False), sep="\n")


def main():
    """Read the command line."""
    words = sys.argv[1:]
    releases = sorted(path.name for path in Path("samples").glob("*-vfr-*"))
    if words[:1] == ["run"] and set(words[1:]) <= set(WORKLOADS):
        measure(words[1:] or list(QUICK))
    elif words == ["compare"] and [re.sub(".*-", "", name) for name in releases] == ["base", "series"]:
        compare(*releases)
    elif words[:1] == ["compare"] and len(words) == 3:
        compare(*words[1:])
    else:
        sys.exit(f"{__doc__}\nWorkloads: {' '.join(WORKLOADS)}\nMeasured: {' '.join(releases)}")


if __name__ == "__main__":
    main()
