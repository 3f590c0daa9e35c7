#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Compare what here.sh has measured on real hardware.

    here.py --base FILE... --series FILE...

Prints the table of `make run`. The rounds of base and series are paired in the order
they were made in: boot the two kernels in turns, as often as you can bear. At least
three rounds of each.
"""
import argparse
import sys

import evidence
import measure


def rounds(paths):
    """[{(workload, how): sample}, ...], one a round."""
    out = []
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.startswith("# round "):
                    out.append({})
                elif line.startswith("R "):
                    if not out:
                        sys.exit(f"{path}: not what here.sh prints: a result before the first round")
                    out[-1].update(measure.parse(line))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--series", nargs="+", required=True, metavar="FILE")
    args = parser.parse_args()
    base, series = rounds(args.base), rounds(args.series)
    pairs = [{"base": b, "series": s} for b, s in zip(base, series)]
    if len(pairs) < 3:
        sys.exit(f"{len(base)} rounds of base and {len(series)} of series: at least three of each are needed")
    if {frozenset(r) for r in base + series} != {frozenset(base[0])}:
        sys.exit("not all rounds have the same workloads: was one interrupted?")
    measure.TITLE = {w: t for w, t in evidence.TITLE.items() if (w, "own") in base[0]}
    print("\n".join(measure.table(pairs)[0]))


if __name__ == "__main__":
    main()
