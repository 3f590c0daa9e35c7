#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Every page right, whatever happens to its mapping: guest/integrity.c on the series' kernels.

    integrity.py BUILD SECONDS SEED ARCH...

The kernels are BUILD/out/ARCH-debug-series. On each, the program must first find every page
that it has corrupted on purpose; then it runs for SECONDS (on a slow machine longer, until
all has happened), with SEED for what its threads do. Prints a table of the regions of memory: how many pages were verified, how
many of them a call had taken away and were found so, signals, mismatches. Leaves it with all
that was printed in BUILD/results/integrity.txt. Exits non-zero if a page was wrong, a call was
never made, no fault was retried, a result of expect/integrity is missing or an unexpected
skip, or the kernel complained.
"""
import os
import re
import sys

sys.path.insert(0, "lab")
# pylint: disable=wrong-import-position
import guest
import ktap

# QEMU 10.0's radix MMU lets a page be written to that was read before, and does not mark it as
# changed: what was written is lost at the next reclaim, whatever the kernel. (64 of 64 pages
# with one CPU, see look_at_cpu() of guest/integrity.c; none with the hash MMU.)
APPEND = {"powerpc": "disable_radix"}
REGION = re.compile(r"^ok \d+ integrity (.*) # (\d+) checks, .* (\d+) found taken away, "
                    r"(\d+) SIGSEGV, (\d+) SIGBUS, (\d+) mismatches", re.M)
CHECKS = r"^ok .* integrity total # (\d+) checks, 0 mismatches"
RETRIES = r"^ok .* integrity retries # vma_lock_retry \+(\d+)"
COLUMNS = ("", "pages verified", "found taken away", "SIGSEGV", "SIGBUS", "mismatches")


def boot(build, arch, word, seconds, seed):
    """The program with the argument WORD, in a guest that has SECONDS: a guest.Result."""
    out = f"{build}/out/{arch}-debug-series"
    return guest.run(out, arch, ["integrity", word], log=f"{out}/integrity-{word}",
                     append=f"seed={seed} {APPEND.get(arch, '')}", timeout=seconds + 240, silence=120)


def count(result, pattern):
    """The number that PATTERN finds in what was printed; 0 if it finds nothing."""
    found = re.search(pattern, result.output, re.M)
    return int(found[1]) if found else 0


def wrong(build, arch, result, expected):
    """What is wrong with a run, as lines; EXPECTED: the results that must be there, or None
    for the run in which pages are corrupted on purpose."""
    got = ktap.parse(f"{build}/linux", result.output)
    may_skip = ktap.for_arch("more/expect/integrity-skips", arch)
    lines = []
    for name in expected or got:
        verdict, why = got.get(name, ("fail", "no result"))
        known = name.replace("selftest: ", "") in may_skip
        if verdict == "fail" or (verdict == "skip" and not known):
            lines.append(f"{name}: {verdict}: {why}")
        elif expected and verdict == "pass" and known:
            lines.append(f"{name}: no longer skipped: take it out of expect/integrity-skips")
    if expected:
        lines += [f"{name}: not in expect/integrity" for name in got if name not in expected]
        if not count(result, CHECKS) or not count(result, RETRIES):
            lines.append("no checks, or no retries: proves nothing")
    if result.verdict != "ok" or not got:
        lines.append(f"{result.verdict}: {result.reason}; console: {result.console}")
    return lines


def accepted(build):
    """What wrong() does not find, as lines: a good run, with one thing made wrong at a time."""
    names = ktap.lines_of("more/expect/integrity")
    good = "KTAP version 1\n" + "".join(f"ok {i} {name} # vma_lock_retry +5\n"
                                        for i, name in enumerate(names, 1))
    good = good.replace("total # vma_lock_retry +5", "total # 7 checks, 0 mismatches")
    plan = f"1..{len(names)}\n"
    lines = [] if not wrong(build, "x86_64", guest.Result("ok", good + plan, "", 0.0, ""), names) \
        else ["a good run does not pass"]
    for what, output, verdict in [
            ("a mismatch", good.replace("ok 3 ", "not ok 3 ") + plan, "failed"),
            ("no checks", good.replace("7 checks", "0 checks") + plan, "ok"),
            ("no retries", good.replace("retry +5", "retry +0") + plan, "ok"),
            ("a region that is not there", good.replace("shmem", "swap", 1) + plan, "ok"),
            ("a skip nobody knows", good.replace(f"{names[0]} #", f"{names[0]} # SKIP") + plan,
             "ok"),
            ("a lost guest", good + plan, "hang"), ("nothing at all", "", "ok")]:
        if not wrong(build, "x86_64", guest.Result(verdict, output, "", 0.0, ""), names):
            lines.append(f"{what} passes")
    return lines


def table(output):
    """What the program printed of each region, as lines in columns."""
    rows = [COLUMNS] + [(name, *(f"{int(n):,}" for n in numbers))
                        for name, *numbers in REGION.findall(output)]
    width = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.rjust(w) if i else cell.ljust(w)
                      for i, (cell, w) in enumerate(zip(row, width))).rstrip() for row in rows]


def test(build, seconds, seed, arch):
    """(whether all is well, what to print) of one architecture."""
    result = boot(build, arch, "selftest", 0, seed)
    bad = [f"selftest: {line}" for line in wrong(build, arch, result, None)]
    result = boot(build, arch, str(seconds), seconds + 120, seed)
    bad += wrong(build, arch, result, ktap.lines_of("more/expect/integrity"))
    verdict = "FAILED" if bad else (f"passed: {count(result, CHECKS):,} checks, no mismatch, "
                                    f"{count(result, RETRIES):,} retries")
    return not bad, [f"{arch}, {seconds} s, seed {seed}: {verdict}", *bad, *table(result.output), "",
                     "All that it printed:", result.output]


def main():
    if len(sys.argv) < 5 or not all(word.isdigit() for word in sys.argv[2:4]):
        sys.exit(__doc__)
    build, seconds, seed, archs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    for line in accepted(build):
        sys.exit(f"integrity: the verdict is worth nothing: {line}")
    text, failed = [], 0
    for arch in archs:
        good, lines = test(build, seconds, seed, arch)
        print("\n".join(f"@ {line}" for line in lines[:lines.index("All that it printed:")]))
        text += lines
        failed += not good
    os.makedirs(f"{build}/results", exist_ok=True)
    with open(f"{build}/results/integrity.txt", "w", encoding="utf-8") as f:
        f.write("\n".join(text) + "\n")
    print(f"{len(archs) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
