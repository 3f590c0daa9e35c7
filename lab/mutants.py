#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Break the series in one place at a time: its tests must notice.

    mutants.py BUILD [NAME...]

BUILD/linux is a clone of the tree, to break (lab/clone.sh). mutants/NAME.patch says in its
first line what it breaks, and then

    Builds:     the objects that see it. A changed header keeps its time, or all would be built
    Caught-by:  what should catch it, and runs first: kunit, kselftest or attempts
    Shows:      a test of this program that must fail, too: what would be lost; may be repeated

Each mutant's kernel (x86_64, debug) boots the KUnit suites, the series' kselftest and the
attempts, until a test fails. A guest that is lost or complains catches it if it does the same
twice; a lost QEMU catches nothing. The series itself must pass all three first. What is done
is kept in BUILD/results/mutants.json. Leaves the table in BUILD/results/mutants.txt; exits
non-zero if a mutant was not caught.
"""
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import guest
import ktap

ARCH = "x86_64"
# Program, kernel parameters, seconds, seconds without output.
RUNS = {"kunit": ("hello", "", 120, 60),
        "kselftest": ("kselftest-fault-retry", "hugepages=16 FAULT_RETRY_EXPECTED=1", 600, 400),
        "attempts": ("attempts", "", 600, 400)}


def head_of(path):
    """{field: [values]} of a mutant, with the files that it changes as "Files"."""
    text = path.read_text(encoding="utf-8")
    head = {"Files": re.findall(r"^\+\+\+ b/(\S+)", text, re.M), "Shows": []}
    for field, value in re.findall(r"^([A-Z][a-z-]+): (.*)$", text.partition("\n\n")[0], re.M):
        head.setdefault(field, []).extend([value] if field == "Shows" else value.split())
    return head


def patch(top, path, *options):
    """Apply a mutant, or take it back with -R; headers keep their times."""
    files = [f"{top}/linux/{f}" for f in head_of(path)["Files"] if f.endswith(".h")]
    times = [(f, os.stat(f)) for f in files]
    subprocess.run(["patch", "-s", "-p1", "-F0", "--no-backup-if-mismatch", *options,
                    "-d", f"{top}/linux", "-i", path.resolve()], check=True)
    for f, was in times:
        os.utime(f, ns=(was.st_atime_ns, was.st_mtime_ns))


def forget(top, objects):
    """Have OBJECTS built anew, and build.sh take nothing that is there for the series."""
    for name in (".kernel", ".complete", *objects):
        Path(f"{top}/out/{ARCH}-debug-series/{name}").unlink(missing_ok=True)


def build(top, objects):
    """Build the kernel in TOP/linux as build.sh does; the end of make's errors, or ""."""
    forget(top, objects)
    env = {**os.environ, "CCACHE_DIR": "/cache/ccache", "CCACHE_DEPEND": "1",
           "CCACHE_NOINODECACHE": "1"}
    made = subprocess.run(["make", "-s", f"-j{os.cpu_count()}", "-C", f"{top}/linux",
                           f"O=/vfr/{top}/out/{ARCH}-debug-series", f"ARCH={ARCH}",
                           "CC=/vfr/lab/cc.sh gcc", "all"],
                          env=env, capture_output=True, text=True, errors="replace", check=False)
    return made.stderr[-1500:] or "make failed" if made.returncode else ""


def boot(top, kind):
    """One run: ("pass" | "fail" | "lost", [names of what failed, or why it was lost])."""
    program, append, timeout, silence = RUNS[kind]
    out = f"{top}/out/{ARCH}-debug-series"
    r = guest.run(out, ARCH, [program], append=append, log=f"{out}/mutant-{kind}",
                  timeout=timeout, silence=silence)
    if r.verdict not in ("ok", "failed", "splat"):
        return "lost", [r.verdict]
    tests = ktap.parse(f"{top}/linux", r.output if kind != "kunit" else guest.read_tail(r.console))
    if kind == "kunit":
        tests = {name: v for name, v in tests.items()
                 if name.startswith("vma_lock_retry") or name == ktap.WHOLE}
    failed = [name for name, (verdict, _) in tests.items() if verdict == "fail"]
    if failed:
        return "fail", failed
    if r.verdict != "ok" or not any(verdict == "pass" for verdict, _ in tests.values()):
        return "lost", [f"{r.verdict}, no test failed"]
    return "pass", []


def judge(top, head):
    """(verdict, by what) of the mutant that is built."""
    first = head["Caught-by"][0]
    for kind in sorted(RUNS, key=lambda kind: kind != first):
        verdict, why = boot(top, kind)
        if verdict == "lost":
            again = boot(top, kind)
            if again[0] == "lost" and (again[1] != why or why == ["qemu lost"]):
                return "no verdict", f"{kind}: {why[0]}, then {again[1][0]}"
            verdict, why = again
        missing = [test for test in head["Shows"] if test not in why]
        if kind == first and missing:
            return "not shown", f"{kind} passes {', '.join(missing)}"
        if verdict != "pass":
            return "caught" if verdict == "fail" else "lost", f"{kind}: {', '.join(why)}"
    return "survived", ""


def one(top, path, stale):
    """(verdict, by what) of one mutant; STALE: the objects that the one before left."""
    head = head_of(path)
    try:
        patch(top, path)
    except subprocess.CalledProcessError:
        return "not applied", "bring the mutant up to date"
    try:
        error = build(top, {*stale, *head["Builds"]})
        return ("not built", error) if error else judge(top, head)
    finally:
        patch(top, path, "-R")


def check_series(top, paths):
    """Build the series, without the objects of an interrupted run; it must pass everything."""
    forget(top, {o for path in paths for o in head_of(path)["Builds"]})
    subprocess.run(["lab/build.sh", top, ARCH, "debug", "series"], check=True)
    for kind in RUNS:
        verdict, why = boot(top, kind)
        if verdict != "pass":
            sys.exit(f"the series itself, {kind}: {verdict}: {', '.join(why)}")
        print(f"@ the series itself passes {kind}", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    top, everyone = sys.argv[1], {p.stem: p for p in sorted(Path("mutants").glob("*.patch"))}
    names = sys.argv[2:] or list(everyone)
    unknown = [name for name in names if name not in everyone]
    if unknown:
        sys.exit(f"no such mutant: {' '.join(unknown)}; known: {' '.join(everyone)}")
    git = ["git", "-c", "safe.directory=*", "-C", f"{top}/linux"]
    subprocess.run([*git, "checkout", "-q", "-f", "--detach", "series"], check=True)
    tree = subprocess.run([*git, "rev-parse", "HEAD^{tree}"], check=True,
                          capture_output=True).stdout
    used = tree + b"".join(p.read_bytes() for p in sorted([
        *Path("lab/config").iterdir(), *Path("lab/guest").rglob("*.[ch]"),
        *(Path("lab", name) for name in ("build.sh", "guest.py", "ktap.py", "mutants.py"))]))
    store, rows, stale = Path(top, "results/mutants.json"), [], None
    store.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for name in names:
        path = everyone[name]
        key = hashlib.sha256(used + path.read_bytes()).hexdigest()
        verdict, why = done.get(key, ("", ""))
        if not verdict:
            if stale is None:
                check_series(top, everyone.values())
            verdict, why = one(top, path, stale or [])
            stale = head_of(path)["Builds"]
            if verdict not in ("not built", "no verdict"):	# these may be the machine's fault
                done[key] = verdict, why
                store.write_text(json.dumps(done, indent=1), encoding="utf-8")
        rows.append((name, verdict, " ".join(why.split())[:110]))
        print(f"@ {len(rows)} of {len(names)}:", *rows[-1], flush=True)
    caught = sum(verdict in ("caught", "lost") for _, verdict, _ in rows)
    table = [f"{name:<28} {verdict:<11} {why}".rstrip() + "\n"
             for name, verdict, why in [("mutant", "verdict", "by"), *rows]]
    Path(top, "results/mutants.txt").write_text(
        "".join(table) + f"\n{caught} of {len(rows)} mutants caught\n", encoding="utf-8")
    sys.exit(caught != len(rows))


if __name__ == "__main__":
    main()
