#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Other people's troubles when page faults wait, in small: base beside series.

    troubles.py BUILD [--times N] [--flavour FLAVOUR] [--only CASE...]

x86-64. Boots guest/troubles.c on base and series, and on the series its cases that are wrong on
purpose, each of which must be noticed as what it is. The cases with times run in the guest's own
time on kernels of the flavour perf, as lab/figures.py's do, the others on the flavour trust.
With FLAVOUR, soak (KASAN) or kcsan, all CASEs run on that one. CASE: of the program, or broken.

A case passes when it is ok on the series and none of its numbers is worse than base's by more
than NO_WORSE allows. Leaves the table, with all that was said, in BUILD/results/troubles.txt;
prints "N passed, N failed, N skipped". Exits non-zero if any case failed or was skipped.
"""
import argparse
import re
import sys
from pathlib import Path

import trust

# As in lab/figures.py: QEMU counts instructions, and the host's load does not matter.
OWN_TIME = {"accel": "tcg,thread=single", "extra": ["-icount", "shift=0,sleep=off"]}

# Seconds. A case that is stuck says so itself, pool after 600 s.
TIMEOUT, SILENCE = 2400, 700

TIMED = ["kill_disk", "kill_fork", "kill_uffd", "kill_dirty", "pool", "hard", "writer"]
OTHERS = ["eexist", "stale", "move", "fork", "lazy", "mthp"]
FILESYSTEMS = ["ext4", "squashfs", "erofs", "btrfs", "f2fs", "9p"]

CASES = [*TIMED, *OTHERS, *FILESYSTEMS]

# What is wrong on purpose, and how it is to be noticed.
BROKEN = {
    "broken_kill": "still there", "broken_eexist": "stranded=[1-9]", "broken_pool": "still wait",
    "broken_hard": "hard [+]0", "broken_move": "has the word", "broken_fork": "has the word",
    "broken_lazy": "wrong data", "broken_mthp": "oom_kill=[1-9]",
    "broken_writer": "after [1-9][0-9]{3} ms",
}
BROKEN_FILESYSTEM = {"broken_filesystem": "[1-9][0-9]* wrong"}

# NAME=NUMBER in what is said: the series may have so many times base's, and so many more.
NO_WORSE = {"rss_ms": (1.25, 5), "exit_ms": (1.25, 5), "mrelease_ms": (1.25, 5),
            "stale": (1, 0), "stranded": (1, 0), "messages": (1.1, 0.01), "leaked_oom": (1, 0), "oom_kill": (1, 0)}


def worse(base, series):
    """What of the series' numbers is worse than NO_WORSE allows, as words."""
    numbers = [dict(re.findall(r"(\w+)=([\d.]+)", text)) for text in (base, series)]
    return [f"{name} {numbers[0].get(name, '-')}, now {numbers[1][name]}"
            for name, (factor, more) in NO_WORSE.items() if name in numbers[1]
            and float(numbers[1][name]) > float(numbers[0].get(name, 0)) * factor + more]


# Numbers that base and series might have, and whether the series' are worse.
MADE_UP = [("exit_ms=10.0 (most 99)", "exit_ms=17.4 (most 999)", False),
           ("exit_ms=10.0", "exit_ms=17.6", True), ("stranded=0.0", "stranded=0.0", False),
           ("stranded=0.0 a million", "stranded=0.1 a million", True),
           ("messages=0.5000", "messages=0.5700 a page", True), ("not ok", "oom_kill=1", True)]


def filled(kw, tree):
    """KW with the kernel's TREE in the path of an initrd."""
    return {**kw, "initrd": kw["initrd"].format(tree=tree)} if "initrd" in kw else kw


def with_images(build):
    """What guest.run() is to be told so that guest/filesystems.c finds its file systems."""
    initrd = f"{build}/out/{trust.ARCH}-trust-{{tree}}/filesystems.initrd"
    for tree in ("base", "series"):
        path = Path(initrd.format(tree=tree))
        path.write_bytes(path.with_name("initramfs.gz").read_bytes() +
                         Path(build, "out", "filesystems.cpio.gz").read_bytes())
    return {"initrd": initrd, "extra": [
        "-fsdev", f"local,id=share,path={build}/out/9p,security_model=none,readonly=on",
        "-device", "virtio-9p-pci,fsdev=share,mount_tag=share"]}


def pair(boots, program, cases, name="", times=1, **kw):
    """Boot the cases on both; the rows of their comparison, and what they said."""
    tests, bad = {}, {}
    for tree in ("base", "series"):
        tests[tree], bad[tree] = boots.boot(tree, name or program, [program, *cases],
                                            append=f"times={times}", timeout=TIMEOUT * times,
                                            silence=SILENCE * times, **filled(kw, tree))
    rows = []
    for case in cases:
        base, series = (tests[tree].get(case) for tree in ("base", "series"))
        row = trust.compare(case, base, series)
        bad_numbers = worse(base[1], series[1]) if base and series else []
        if row.verdict == "passed" and bad_numbers:
            row.verdict, row.why = "failed", "; ".join(bad_numbers)
        boots.text += [f"{case}:"] + [f"    {tree}: {tests[tree].get(case, (0, 'no result'))[1]}"
                                      for tree in tests]
        rows.append(row)
    rows += [trust.Row("the guest", "", "", "failed", f"{tree}: {why}")
             for tree, why in bad.items() if why]
    return rows


def broken(boots, program, words, **kw):
    """Whether each way to be wrong is noticed, and as what it is."""
    tests, bad = boots.boot("series", f"broken-{program}", [program, "broken"],
                            **filled(kw, "series"))
    rows = []
    for case, word in words.items():
        ok, text = tests.get(case, (True, "no result"))
        good = not ok and bool(re.search(word, text))
        rows.append(trust.Row(case, "", "noticed" if good else "", "passed" if good else "failed",
                              text))
    return rows + ([trust.Row(f"{program} broken, the guest", "", "", "failed", bad)] if bad else [])


def main():
    """Read the command line."""
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("build")
    ap.add_argument("--times", type=int, default=1, help="so many times as long")
    ap.add_argument("--only", nargs="*", default=[*CASES, "broken"],
                    choices=[*CASES, "broken"])
    ap.add_argument("--flavour", help="of the kernels, for the cases of guest/troubles.c")
    args = ap.parse_args()
    if args.flavour and not {*TIMED, *OTHERS}.issuperset(args.only):
        sys.exit(f"FLAVOUR={args.flavour} needs ONLY=, of: {' '.join(TIMED + OTHERS)}")
    for base, series, is_worse in MADE_UP:
        if bool(worse(base, series)) != is_worse:
            sys.exit(f"the verdict is worth nothing: {base}, {series}")
    boots, rows = trust.Boots(args.build), []
    images = {} if args.flavour else with_images(args.build)
    timed = {"name": "timed", **OWN_TIME, "flavour": "perf"}
    if "broken" in args.only:
        rows += broken(boots, "troubles", BROKEN)
        rows += broken(boots, "filesystems", BROKEN_FILESYSTEM, **images)
    for program, all_cases, kw in (
            ("troubles", TIMED, {"flavour": args.flavour} if args.flavour else timed),
            ("troubles", OTHERS, {"flavour": args.flavour or "trust"}),
            ("filesystems", FILESYSTEMS, images)):
        cases = [case for case in all_cases if case in args.only]
        if cases:
            rows += pair(boots, program, cases, times=args.times, **kw)
    trust.end(args.build, "troubles", rows, boots.text)


if __name__ == "__main__":
    main()
