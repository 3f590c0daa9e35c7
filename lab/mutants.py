#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Break the series in one place at a time: its own tests must notice.

    mutants.py BUILD [NAME...]

BUILD is a build directory of its own, whose BUILD/linux is a clone of the tree
with the series (see the Makefile). mutants/NAME.patch says in its first line what
it breaks, in "Builds:" the objects that see it, in "Caught-by:" where it is expected
to be caught. (A change of mm.h would rebuild the whole kernel: the header keeps its
time stamp, and the objects named are built anew.)

Each mutant's kernel (x86_64, debug) boots and runs the series' KUnit suites, its kselftest
and guest/behave.c, in this order but the expected one first, until one catches it: by a
failed test that it names, or by a guest that is lost or complains twice, which is told
apart ("lost"). A QEMU that is lost catches nothing. The series itself must pass all
three first. What is done is kept in BUILD/results/mutants.json by all that goes into
it. Prints the table and caught/total, leaves it in BUILD/results/mutants.txt; exits
non-zero when one survives.
"""
import fcntl
import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import time

import guest
import test

ARCH = "x86_64"
SUITE = "vma_lock_retry"
PROGRAM = "fault-retry"


def facts_of(path):
    """(what it breaks, [objects], where it should be caught, [files]) of a mutant."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    head = text.partition("\n\n")[0].splitlines()
    fields = dict(line.split(": ", 1) for line in head[1:])
    return head[0], fields["Builds"].split(), fields.get("Caught-by"), \
        re.findall(r"^\+\+\+ b/(\S+)", text, re.M)


def patch(linux, path, *options):
    """Apply a mutant (or take it back with -R) and leave the headers' times as they were."""
    files = [f"{linux}/{f}" for f in facts_of(path)[3]]
    stat = {f: os.stat(f) for f in files}
    subprocess.run(["patch", "-s", "-p1", "--no-backup-if-mismatch", "-F0", *options,
                    "-d", linux, "-i", os.path.abspath(path)], check=True)
    for f in files:
        if f.endswith(".h"):
            os.utime(f, ns=(stat[f].st_atime_ns, stat[f].st_mtime_ns))


def lock(top):
    """Keep others out of TOP: two runs at once would patch the same tree. The open file."""
    os.makedirs(f"{top}/results", exist_ok=True)
    f = open(f"{top}/results/.mutants.lock", "w", encoding="utf-8")
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("another run is at work in this clone: wait for its end")
    return f


def build(top, stale):
    """Build what is in TOP/linux, the objects in STALE anew; the error, or ""."""
    out = f"{top}/out/{ARCH}-debug-series"
    for obj in stale:
        if os.path.exists(f"{out}/{obj}"):
            os.unlink(f"{out}/{obj}")
    if os.path.exists(f"{out}/.vfr-complete"):
        os.unlink(f"{out}/.vfr-complete")	# a header's change alone would not tell
    r = subprocess.run(["scripts/kernel.sh", top, ARCH, "debug", "series"], check=False,
                       capture_output=True, text=True, errors="replace")
    return (r.stdout + r.stderr)[-1500:] if r.returncode else ""


def kunit(top):
    """Boot, let KUnit run; (verdict, what failed or why, seconds): pass, caught or lost."""
    out = f"{top}/out/{ARCH}-debug-series"
    r = guest.run(out, ARCH, ["hello"], log=f"{out}/mutant", timeout=120, silence=60)
    text, bad = test.kunit_verdict(top, r.console, [SUITE])
    failed = re.findall(r"\[FAILED\] (\w.*)", text)
    if failed:
        return "caught", "KUnit: " + ", ".join(failed), r.seconds
    if r.verdict != "ok":
        return "lost", f"KUnit: {r.verdict}, {r.reason}", r.seconds
    return ("lost", "KUnit: " + bad, r.seconds) if bad else ("pass", "", r.seconds)


def ktap(top, program, end):
    """The same for a program that prints KTAP and, when it is through, END."""
    out = f"{top}/out/{ARCH}-debug-series"
    r = guest.run(out, ARCH, [program], log=f"{out}/mutant-{program}",
                  append="hugepages=16", timeout=600, silence=400)
    failed = re.findall(r"^not ok \d+ (?:\S+\.)?(.+?)(?: #.*)?$", r.output, re.M)
    if failed:
        return "caught", f"{program}: " + ", ".join(failed), r.seconds
    if r.verdict != "ok" or not re.search(end, r.output, re.M):
        return "lost", f"{program}: {r.verdict}, {r.reason}", r.seconds
    return "pass", "", r.seconds


def kselftest(top):
    return ktap(top, f"kselftest-{PROGRAM}", r"^# Totals: pass:[1-9]\d* fail:0 ")


def behave(top):
    return ktap(top, "behave", r"^1\.\.[1-9]")


RUNS = (kunit, kselftest, behave)


def judge(top, first):
    """Run one after the other, the expected catcher first, until it is caught."""
    for run in sorted(RUNS, key=lambda r: r.__name__ != first):
        for _ in range(2):
            verdict, why, _ = run(top)
            if verdict != "lost":
                break
        if "qemu lost" in why:
            return "no verdict", why
        if verdict != "pass":
            return verdict, why
    return "survived", ""


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    top, names = sys.argv[1], sys.argv[2:]
    linux, store = f"{top}/linux", f"{top}/results/mutants.json"
    os.makedirs(f"{top}/results", exist_ok=True)
    paths = [f"mutants/{n}.patch" for n in names] or sorted(glob.glob("mutants/*.patch"))
    missing = [p for p in paths if not os.path.exists(p)]
    if missing:
        sys.exit(f"no such mutant: {' '.join(missing)}; known: " +
                 " ".join(sorted(os.path.basename(p)[:-6] for p in glob.glob("mutants/*.patch"))))
    git = ["git", "-C", linux]
    _lock = lock(top)	# held to the end
    subprocess.run([*git, "checkout", "-q", "-f", "--detach", "series"], check=True)
    tree = test.sh(*git, "rev-parse", "HEAD^{tree}").strip()

    ident = tree + "".join(
        hashlib.sha256(open(f, "rb").read()).hexdigest() for f in sorted(
            [*glob.glob("config/*.config"), *glob.glob("guest/**/*.[ch]", recursive=True),
             "scripts/kernel.sh", "scripts/guest.sh", "scripts/guest.py", "scripts/cc.sh",
             "scripts/mutants.py", "scripts/test.py", f"config/{ARCH}.env"]))
    done = {}
    if os.path.exists(store):
        with open(store, encoding="utf-8") as f:
            done = json.load(f)

    start = time.monotonic()

    def note(*words):
        t = int(time.monotonic() - start)
        print(f"@ {t // 60}:{t % 60:02}", *words, flush=True)

    def key(path):
        with open(path, encoding="utf-8") as f:
            return hashlib.sha256((ident + f.read()).encode()).hexdigest()

    if any(key(p) not in done for p in paths):
        # An interrupted run may have left a mutant's objects behind.
        stale = sorted({o for p in glob.glob("mutants/*.patch") for o in facts_of(p)[1]})
        error = build(top, stale)
        if error:
            sys.exit(f"the series does not build: {error}")
        subprocess.run(["scripts/guest.sh", top, ARCH, "debug", "series"], check=True,
                       stdout=subprocess.DEVNULL)
        for run in RUNS:
            verdict, why, seconds = run(top)
            if verdict != "pass":
                sys.exit(f"the series itself, {verdict}: {why}")
            note(f"the series itself passes {run.__name__} ({seconds:.0f} s)")
        stale = []

    for n, path in enumerate(paths, 1):
        name = os.path.basename(path)[:-6]
        if key(path) in done:
            note(f"{n} of {len(paths)}, {name}: kept")
            continue
        what, objects, first, _ = facts_of(path)
        try:
            patch(linux, path)
        except subprocess.CalledProcessError:
            done[key(path)] = ["not applied", "bring the mutant up to date"]
        else:
            try:
                error = build(top, {*stale, *objects})
                done[key(path)] = ("not built", error) if error else judge(top, first)
            finally:
                patch(linux, path, "-R")
            stale = objects
        with open(store + ".tmp", "w", encoding="utf-8") as f:
            # What may be the machine's fault is tried again by the next run.
            json.dump({k: v for k, v in done.items() if v[0] not in ("not built", "no verdict")},
                      f, indent=1)
        os.replace(store + ".tmp", store)
        note(f"{n} of {len(paths)}, {name}: {' '.join(done[key(path)])[:200]}")

    rows, caught = [], 0
    for path in paths:
        verdict, why = done[key(path)]
        caught += verdict in ("caught", "lost")
        why = " ".join(why.split())
        rows.append(f"{os.path.basename(path)[:-6]:<28} {verdict:<11} {why[:110]}")
    text = "\n".join([f"{'mutant':<28} {'verdict':<11} by", *rows, "",
                      f"{caught} of {len(paths)} mutants caught"])
    with open(f"{top}/results/mutants.txt", "w", encoding="utf-8") as f:
        f.write(text + "\n")
    print("\n".join("@ " + line for line in text.splitlines()))
    sys.exit(caught != len(paths))


if __name__ == "__main__":
    main()
