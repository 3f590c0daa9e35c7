#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Every page right, for long: guest/integrity.c on the series' debug kernel of x86-64.

    integrity.py BUILD SECONDS [THREADS]

Prints a table of the regions of memory: how many pages were verified, how many of them
had been taken away by a call and were found so, signals, mismatches. Leaves it with the
command, the duration and all counts in BUILD/results/integrity.txt. Exits non-zero, with
the mismatches in the table, if a page was wrong, a call was never made, no fault was
retried, or the kernel complained.
"""
import os
import re
import sys

import test

ARCH = "x86_64"
REGION = re.compile(r"(\d+) checks, .* (\d+) found taken away, (\d+) SIGSEGV, (\d+) SIGBUS, "
                    r"(\d+) mismatches")


def table(output):
    """The rows of what integrity printed, the first with the names of the columns."""
    rows = [("", "pages verified", "found taken away", "SIGSEGV", "SIGBUS", "mismatches")]
    for name, (_, why) in test.ktap(output).items():
        m = REGION.match(why)
        if m:
            rows.append((name.removeprefix("integrity "), *(f"{int(n):,}" for n in m.groups())))
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return ["  ".join(c.rjust(w) if i else c.ljust(w)
                      for i, (c, w) in enumerate(zip(r, width))).rstrip() for r in rows]


def main():
    if len(sys.argv) not in (3, 4) or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    build, args = sys.argv[1], sys.argv[2:]
    r = test.boot_integrity(build, ARCH, "series", *args)
    why, count = test.integrity_verdict(r, ARCH)
    got = test.ktap(r.output)
    text = [f"integrity {' '.join(args)}, in a guest of {build}/out/{ARCH}-debug-series",
            f"{r.seconds:.0f} s from its start to its end", "", *table(r.output), ""]
    for name in ("mutators", "children", "retries", "total"):
        text.append(f"{name}: " + got.get(f"integrity {name}", ("", "no result"))[1])
    text += ["", f"FAILED\n{why}" if why else f"passed: {count['checks']:,} checks, no mismatch, "
             f"{count['retries']:,} retries"]
    os.makedirs(f"{build}/results", exist_ok=True)
    with open(f"{build}/results/integrity.txt", "w", encoding="utf-8") as f:
        f.write("\n".join([*text, "", "All that it printed:", r.output]))
    print("\n".join(text))
    sys.exit(1 if why else 0)


if __name__ == "__main__":
    main()
