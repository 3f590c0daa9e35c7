#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What would be lost without a part of the series: one line of figures for each part.

    variants.py BUILD

BUILD is the build directory of the mutants. variants/NAME.patch says in its first line
what it changes, in "Builds:" the objects that see it, and in each "Shows:" the name of a
test of guest/behave.c that tells the difference. Boots the series and each variant
(x86_64, debug) with "behave all"; leaves the table in BUILD/results/variants.txt. Exits
non-zero if a guest is lost, or a line of the table is the same with and without.
"""
import glob
import os
import re
import subprocess
import sys

import guest
import mutants


def behaviours(top):
    """{name: what was seen} of "behave all" in a guest."""
    out = f"{top}/out/{mutants.ARCH}-debug-series"
    r = guest.run(out, mutants.ARCH, ["behave", "all"], log=f"{out}/variant", timeout=600, silence=120)
    if r.verdict not in ("ok", "failed"):
        sys.exit(f"variants: {r.verdict}: {r.reason}; console: {r.console}")
    return {name: seen for name, seen in re.findall(r"^(?:not )?ok \d+ (.*?) # (.*)$", r.output, re.M)}


def head(path):
    """(what it changes, [objects], [tests])"""
    with open(path, encoding="utf-8") as f:
        lines = f.read().partition("\n\n")[0].splitlines()
    fields = [line.split(": ", 1) for line in lines[1:]]
    return lines[0], [w for k, v in fields if k == "Builds" for w in v.split()], \
        [v for k, v in fields if k == "Shows"]


def build(top, objects):
    error = mutants.build(top, objects)
    if error:
        sys.exit(f"variants: does not build: {error}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    top, paths = sys.argv[1], sorted(glob.glob("variants/*.patch"))
    linux = f"{top}/linux"
    _lock = mutants.lock(top)	# held to the end
    subprocess.run(["git", "-C", linux, "checkout", "-q", "-f", "--detach", "series"], check=True)
    # An interrupted run may have left the objects of a mutant or variant behind.
    build(top, {o for p in glob.glob("mutants/*.patch") for o in mutants.facts_of(p)[1]} |
          {o for p in paths for o in head(p)[1]})
    subprocess.run(["scripts/guest.sh", top, mutants.ARCH, "debug", "series"], check=True,
                   stdout=subprocess.DEVNULL)
    series = behaviours(top)
    rows, same = [], []
    for k, path in enumerate(paths, 1):
        what, objects, tests = head(path)
        print(f"@ {k} of {len(paths)}: {path}", flush=True)
        mutants.patch(linux, path)
        try:
            build(top, objects)
            seen = behaviours(top)
        finally:
            mutants.patch(linux, path, "-R")
        for obj in objects:
            os.unlink(f"{top}/out/{mutants.ARCH}-debug-series/{obj}")
        rows += [what]
        for t in tests:
            if series[t] == seen[t]:
                same.append(f"{path}: {t}")
            rows += [f"  {t}", f"    series   {series[t]}", f"    without  {seen[t]}"]
    text = "\n".join(rows) + "\n"
    os.makedirs(f"{top}/results", exist_ok=True)
    with open(f"{top}/results/variants.txt", "w", encoding="utf-8") as f:
        f.write(text)
    print("\n".join("@ " + line for line in rows))
    if same:
        sys.exit("no difference seen: " + "; ".join(same))


if __name__ == "__main__":
    main()
