#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Whatever may break page faults, side by side and for long, on kernels that look on.

    soak.py BUILD MINUTES JOBS [KERNEL...]

Boots each KERNEL (x86_64-soak, x86_64-kcsan, arm64-soak; all if none is named; with -base
behind it that of the base) with soak-guest.sh until it has run for MINUTES, in guests of 15
minutes at most, the kernels in turns, JOBS guests at once. What was run is kept in BUILD/soak/ by
kernel and programs, and counts: an interrupted soak goes on where it was, one with more MINUTES
adds to it.

Every splat, panic, hang, lost guest, failed stressor, piece of which a part did nothing, or test
that fails when run alone fails the soak. A test that fails under load does if that kernel's base
was run, too, and has so many by chance in one of 100 cases at most (Fisher's exact test).
KCSAN's reports are another matter, since base has data races of its own: one on the series fails
the soak unless the base has one of the same two functions, so x86_64-kcsan-base has to be run as
long. Leaves the table in BUILD/results/soak.txt and all counts in soak.json.
"""
import collections
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time

sys.path.insert(0, "lab")
# pylint: disable=wrong-import-position
import guest
import trust

PIECE = 15	# minutes, at most
KERNELS = ["x86_64-soak", "x86_64-kcsan", "arm64-soak"]
# Emulated CPUs that share the host's: a stall is not told before it is one there, too.
APPEND = ("null_blk.nr_devices=0 zram.num_devices=1 hung_task_panic=1 softlockup_panic=1 "
          "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 workqueue.watchdog_thresh=0 "
          "panic_on_warn=0")
# What has to have happened in each guest, or it was no soak.
WANTED = ["selftest_runs", "tests_ok", "alone_ok", "stress_runs", "trinity_runs", "calls",
          "pgmajfault", "vma_lock_retry", "pswpin", "ops_fault", "ops_fork", "ops_mmap",
          "ops_mremap", "ops_mlock", "ops_madvise", "ops_userfaultfd", "ops_swap", "ops_vm"]
LOAD = re.compile(r"^P failed under load: not ok \d+ (\S+)", re.M)
RACE = re.compile(r"BUG: KCSAN: (.*)$", re.M)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def tree_of(name):
    """(kernel, tree) of a name on the command line."""
    return (name[:-len("-base")], "base") if name.endswith("-base") else (name, "series")


def races(console):
    """{"data-race in f / g": how often}; the two functions in alphabetical order."""
    found = collections.Counter()
    for title in RACE.findall(console):
        m = re.fullmatch(r"(\S+ in )(.*?)(?: / (.*))?", title.strip())
        names = sorted(n.split("+")[0].split(" ")[0] for n in m.groups()[1:] if n) if m else [title]
        found[(m.group(1) if m else "") + " / ".join(names)] += 1
    return found


def complaints(console, kcsan):
    """The lines that no console may contain; without KCSAN's if those are counted apart."""
    return [m.group(0).strip() for m in guest.SPLATS.finditer(console)
            if not (kcsan and "KCSAN:" in m.group(0))]


class Soak:
    """The guests that were run, kept or new."""

    def __init__(self, build, minutes):
        self.build, self.minutes = build, minutes
        self.lock, self.keys = threading.Lock(), {}
        os.makedirs(f"{build}/soak", exist_ok=True)

    def out(self, kernel, tree):
        return f"{self.build}/out/{kernel}-{tree}"

    def key(self, kernel, tree):
        """What makes a run what it is: the kernel, and of the programs those it runs."""
        if (kernel, tree) not in self.keys:
            arch, out = kernel.split("-")[0], self.out(kernel, tree)
            root = f"{out}/guest/root"
            h = hashlib.sha256(APPEND.encode())
            for path in (f"{out}/{guest.arch_facts(arch)['IMAGE']}", f"{root}/init",
                         f"{root}/bin/kselftest-fault-retry",
                         f"{self.build}/out/soak-{arch}.cpio.gz"):
                with open(path, "rb") as f:
                    h.update(hashlib.file_digest(f, "sha256").digest())
            self.keys[kernel, tree] = h.hexdigest()
        return self.keys[kernel, tree]

    def kept(self, kernel, tree):
        """What was run of it, oldest first."""
        runs, key = [], self.key(kernel, tree)
        for name in sorted(os.listdir(f"{self.build}/soak")):
            if re.fullmatch(re.escape(f"{kernel}-{tree}") + r"\.\d+\.json", name):
                run = json.loads(read(f"{self.build}/soak/{name}"))
                if run["key"] == key:
                    runs.append(run)
        return runs

    def work(self, name):
        """Run a piece of what is left to run of a kernel; whether more may be left."""
        kernel, tree = tree_of(name)
        left = self.minutes * 60 - sum(r["facts"].get("took", 0) for r in self.kept(kernel, tree))
        if left < 30:
            return False
        run = self.boot(kernel, tree, int(min(left, PIECE * 60)))
        return run["verdict"] in ("ok", "splat", "failed") and bool(run["facts"])

    def boot(self, kernel, tree, seconds):
        """One guest for so long; kept, and returned."""
        arch = kernel.split("-")[0]
        out = self.out(kernel, tree)
        stem = f"{self.build}/soak/{kernel}-{tree}"
        n = 1
        with self.lock:
            while os.path.exists(f"{stem}.{n:03}.console"):
                n += 1
            log = f"{stem}.{n:03}"
            with open(f"{log}.console", "w", encoding="utf-8"):
                pass
        with open(f"{log}.initrd", "wb") as f:
            for part in (f"{out}/initramfs.gz", f"{self.build}/out/soak-{arch}.cpio.gz"):
                with open(part, "rb") as g:
                    shutil.copyfileobj(g, f)
        print(f"@ {time.strftime('%H:%M')} {kernel} {tree}: {seconds // 60} min {seconds % 60} s, "
              f"log: {log}.console", flush=True)
        r = guest.run(out, arch, ["soak", str(seconds)], append=APPEND, log=log, cpus=2,
                      memory="3G", timeout=2.5 * seconds + 1200, silence=600,
                      initrd=f"{log}.initrd")
        os.unlink(f"{log}.initrd")
        console = read(f"{log}.console")
        line = re.search(r"^R (.*)$", r.output, re.M)
        facts = ({k: int(v or 0) for k, v in (w.split("=") for w in line.group(1).split())}
                 if line else {})
        kcsan = kernel.endswith("kcsan")
        run = {"key": self.key(kernel, tree), "kernel": kernel, "tree": tree, "log": log,
               "when": time.strftime("%Y-%m-%d %H:%M"), "asked": seconds, "seconds": r.seconds,
               "verdict": r.verdict, "reason": r.reason, "facts": facts,
               "under_load": collections.Counter(LOAD.findall(r.output)),
               "failures": re.findall(r"^F (.*)$", r.output, re.M),
               "complaints": complaints(console, kcsan), "races": races(console) if kcsan else {}}
        with open(f"{log}.json.tmp", "w", encoding="utf-8") as f:
            json.dump(run, f, indent=1)
        os.rename(f"{log}.json.tmp", f"{log}.json")
        print(f"@ {time.strftime('%H:%M')} {kernel} {tree}: {verdict(run) or 'ok'}", flush=True)
        return run


def verdict(run):
    """What is wrong with a run, or ""; races apart."""
    if run["complaints"]:
        return run["complaints"][0]
    if run["verdict"] not in ("ok", "splat"):
        return f"{run['verdict']}: {run['reason']}"
    if not run["facts"]:
        return "no counts"
    idle = [word for word in WANTED if not run["facts"].get(word)]
    if idle:
        return f"did not happen: {' '.join(idle)}"
    return run["failures"][0] if run["failures"] else ""


def worse_under_load(runs, base):
    """{test: words} of those that fail under load, and whether more often than on base."""
    def count(some):
        failed = collections.Counter()
        for run in some:
            failed.update(run["under_load"])
        return failed, sum(run["facts"].get("selftest_runs", 0) for run in some)
    (failed, of), (failed_base, of_base) = count(runs), count(base)
    told = {}
    for test, n in sorted(failed.items()):
        p = trust.more_by_chance(min(n, of), of, min(failed_base[test], of_base), of_base)
        told[f"{test}: {n} of {of} runs under load, on base {failed_base[test]} of {of_base}"
             ] = bool(base) and p < trust.P_WORSE
    return told


def num(n):
    return f"{n:,}"


def report(soak, names):
    """(lines of the table, number of kernels that passed, failed)."""
    rows = [("kernel", "runs", "h:mm", "faults", "major", "retries", "hard", "mmap_lock",
             "swapped in", "tests ok", "not ok", "alone ok", "syscalls", "reports")]
    text, passed, failed = [], 0, 0
    runs = {name: soak.kept(*tree_of(name)) for name in names}
    for name in names:
        kernel, tree = tree_of(name)
        total, told, known = collections.Counter(), collections.Counter(), collections.Counter()
        for r in runs[name]:
            total.update(r["facts"])
            told.update(r["races"])
        for r in runs.get(f"{kernel}-base", []):
            known.update(r["races"])
        bad = [f"{r['log']}: {verdict(r)}" for r in runs[name] if verdict(r)]
        told_of_load = worse_under_load(runs[name], runs.get(f"{kernel}-base", []))
        if tree == "series":
            bad += [words for words, is_worse in told_of_load.items() if is_worse]
            text += [f"{name}: {words}" for words, is_worse in told_of_load.items() if not is_worse]
        if total["took"] < soak.minutes * 60 - 30:
            bad.append(f"ran {total['took'] // 60} of {soak.minutes} minutes")
        new = {t: n for t, n in told.items() if t not in known}
        bad += [f"{n} times, and not seen on base: {t}" for t, n in sorted(new.items())]
        rows.append((f"{kernel} {tree}", num(len(runs[name])),
                     f"{total['took'] // 3600}:{total['took'] // 60 % 60:02}",
                     *(num(total[k]) for k in ("pgfault", "pgmajfault", "vma_lock_retry",
                                               "vma_lock_retry_hard", "vma_lock_fallback",
                                               "pswpin", "tests_ok", "tests_bad", "alone_ok",
                                               "calls")),
                     num(sum(len(r["complaints"]) for r in runs[name]) + sum(told.values()))))
        if tree == "base":
            text += [f"{name}, for comparison only: {b}" for b in bad]
        else:
            text += [f"{name}: {b}" for b in bad]
            failed += bool(bad)
            passed += not bad
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) if i else c.ljust(w)
                       for i, (c, w) in enumerate(zip(r, width))) for r in rows]
    return lines + ([""] + text if text else []), passed, failed


def main():
    if len(sys.argv) < 4 or not all(a.isdigit() and int(a) for a in sys.argv[2:4]):
        sys.exit(__doc__)
    build, minutes, jobs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    names = sys.argv[4:] or KERNELS
    unknown = {n for n in names if tree_of(n)[0] not in KERNELS}
    if unknown:
        sys.exit(f"soak: no kernel {' '.join(sorted(unknown))}; known: {' '.join(KERNELS)}, "
                 "and each with -base")
    soak = Soak(build, minutes)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        left = names
        while left:
            left = [name for name, more in zip(left, pool.map(soak.work, left)) if more]
    lines, passed, failed = report(soak, names)
    os.makedirs(f"{build}/results", exist_ok=True)
    with open(f"{build}/results/soak.txt", "w", encoding="utf-8") as f:
        f.write(f"{minutes} minutes a kernel: kselftest, stress-ng and trinity side by side, "
                "QEMU/TCG, 2 vCPUs, 3 GiB\n\n" + "\n".join(lines) + "\n")
    with open(f"{build}/results/soak.json", "w", encoding="utf-8") as f:
        json.dump([r for n in names for r in soak.kept(*tree_of(n))], f, indent=1)
    print("\n".join(lines))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
