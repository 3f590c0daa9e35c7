#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The evidence: all workloads on all kernels, interleaved, one table, one picture.

    evidence.py BUILD ROUNDS [WORKLOAD...]

The kernels, built before (see the Makefile): base, the series ("hard"), and the
experiments of experiments/*.patch. A round boots each of them once for each set of
workloads, every round in another order. With WORKLOADs (e1, e4, ...) only those.
E4 and E5 are run in guests whose clock counts instructions, as many at once as the host
has CPUs and memory for; all others alone, and some of them a second time with such a clock.

A boot that was made is kept in BUILD/evidence/ by kernel, programs and command
line, and not made again: an interrupted run goes on where it was. Leaves
BUILD/results/evidence.json (all samples, and what they were made with), evidence.csv
(medians, spread and ratios), evidence.txt, letter.txt (the cover letter's tables),
evidence.svg and evidence.png.

Ratios are of the medians' pairs: kernel/base of the same round; the interval is a
95 % bootstrap one of their median. "worse" and "better" mean that it lies wholly on
one side of 1. Times of an emulated machine show waiting, not the speed of a CPU.
"""
import concurrent.futures
import csv
import datetime
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

import guest
from measure import NULL_BLK, bootstrap, count_insns, num, parse, ratios

ARCH = "x86_64"
CONTEND = ["e1", "e1m", "e1i", "e1w", "e1l", "e2", "e2l", "e2s", "e3", "e3r", "e6", "e7"]
CLOCKED = ["e1", "e1m", "e1l", "e2", "e3", "e3r", "e6"]
THRASH = ["e4", "e4r", "e4s", "e5"]
QUICK = ["pf1", "pf2", "pf3"]
REAL = ["rocksdb", "jvm"]
# Throughput in the guest's own time: an instruction takes 1 ns, whichever of the CPUs
# executes it, and the host's noise is not in it. The CPUs take turns: nothing is parallel.
ICOUNT = ["-icount", "shift=0,sleep=off"]
SECONDS = "1.5"	# of each thrash workload; pf1 to pf3 have their own
NO_DISK = "null_blk.nr_devices=0"
# name: (program and arguments, workloads, CPUs, memory, kernel command line, more for QEMU)
SETS = {
    "contend": (["contend", "quick", "floors"], CONTEND, 2, "2G", NULL_BLK, []),
    # With the image of scripts/real-image.sh behind the guest's initramfs.
    "real": (["real", "10"], REAL, 2, "3G", NO_DISK, []),
    "pf": (["thrash", "3"], QUICK, 2, "3G", NO_DISK, []),
    "thrash": (["thrash", SECONDS], THRASH, 2, "3G", NO_DISK, ICOUNT),
    "thrash-up": (["thrash", SECONDS], ["e4", "e4r", "e4s"], 1, "3G", NO_DISK, ICOUNT),
    # Once more, base and the series alone, what must be no worse: where the noise hides it.
    "clocked": (["contend", "quick"], CLOCKED, 2, "2G", NULL_BLK, ICOUNT),
}
# So often in each boot.
REPEAT = {"thrash": {"e4": 2, "e5": 2}, "thrash-up": {"e4": 2}, "clocked": {"e3": 2, "e3r": 2}}
# What is behind the workload's name then.
SUFFIX = {"thrash-up": "/1", "clocked": "/i"}
# What shows what an experiment is about; all of them, if not said. No experiment runs
# page_fault1 to 3 or a floor: there is nothing for them to change.
ONLY = {"forms": ["e1l", "e2", "e2l", "e2s", "e3", "e3r"]}

TITLE = {
    "e1": "E1   mmap+munmap elsewhere in the process",
    "e1m": "E1m  mmap+munmap next to the faulted VMA, merging with it",
    "e1i": "E1i  E1 with SCHED_IDLE faults, nice -20 writer, busy CPUs",
    "e1w": "E1w  the same, but the faults' threads in a cgroup with cpu.weight 1",
    "e1l": "E1l  E1i, and a process that drops what is read and not mapped",
    "e2": "E2   mprotect of a part of the faulted VMA, a file",
    "e2l": "E2l  the same with 3 MiB of page cache, and a process that drops it as in E1l",
    "e2s": "E2s  mprotect of a part of the faulted VMA, swapped-out anonymous memory",
    "e3": "E3   fork of 300 VMAs under fault, cold pages",
    "e3r": "E3r  the same, pages that are evicted and dropped as in E1l",
    "e4": "E4   48 threads read 16 MiB each over and over, limit 64 MiB, 1 ms a read",
    "e4r": "E4r  the same without readahead: every page is waited for",
    "e4s": "E4s  E4 with 10 ms a read",
    "e4/1": "E4   on one CPU",
    "e4r/1": "E4r  on one CPU",
    "e4s/1": "E4s  on one CPU",
    "e5": "E5   4 threads read 100 MiB of anonymous memory at random, 2 page it out",
    "e6": "E6   mmap+touch+munmap while io.max throttles the faults",
    "e7": "E7   E1i with faults that userfaultfd serves after 20 ms",
    "rocksdb": "RocksDB's db_bench readrandom --mmap_read, 16 threads, 128 MiB, limit 96 MiB",
    "jvm": "OpenJDK: 8 threads read a heap that swaps, one starts threads, memory.high 144 MiB",
    "pf1": "page_fault1, anonymous (nothing to wait for)",
    "pf2": "page_fault2, private file",
    "pf3": "page_fault3, shared file",
}
TITLE = {n: t for w, title in TITLE.items() for n, t in (
    (w, title), *([(f"{w}/i", f"{title[:5]}in the guest's own time")] if w in CLOCKED else []))}
# how it was run, key, name, better is: -1 less, +1 more, 0 neither
WRITER = [
    ("own", "w_mean_us", "writer mean us", -1),
    ("own", "w_p50_us", "writer p50 us", -1),
    ("own", "w_p99_us", "writer p99 us", -1),
    ("own", "w_max_us", "writer max us", -1),
    ("own", "stalled_ms", "writer stalled (>10 ms) ms", -1),
    ("own", "f_p50_us", "fault p50 us", -1),
    ("own", "f_p99_us", "fault p99 us", -1),
    ("own", "faults_s", "faults/s", +1),
    ("trace", "rd_per_fault", "mmap_lock reads/fault", -1),
    ("trace", "rd_wait_ms", "mmap_lock read wait ms", -1),
    ("trace", "wr_wait_ms", "mmap_lock write wait ms", -1),
    ("own", "lost_per_fault", "reads lost to eviction/fault", 0),
    ("own", "abort_per_fault", "failed VMA look-ups/fault", 0),
]
E4_ROWS = [
    ("own", "rounds_s", "rounds/s", +1),
    ("own", "mb_round", "MiB read/round", -1),
    ("own", "refault_round", "refaults/round", -1),
    ("own", "scan_round", "pgscan_direct/round", 0),
    ("own", "maj_round", "pgmajfault/round", 0),
    ("own", "retry_round", "waits with a retry/round", 0),
]
ROWS = {
    **{w: WRITER for w in CONTEND},
    **{f"{w}/i": WRITER[:-2] for w in CLOCKED},
    **{w: E4_ROWS for w in ("e4", "e4r", "e4s", "e4/1", "e4r/1", "e4s/1")},
    "rocksdb": [
        ("own", "ops_s", "reads/s", +1),
        ("own", "p50_us", "read p50 us", -1),
        ("own", "p99_us", "read p99 us", -1),
        ("own", "fall_per_maj", "mmap_lock faults/major fault", -1),
    ],
    "jvm": [
        ("own", "reads_s", "reads/s", +1),
        ("own", "t_mean_us", "thread start+join mean us", -1),
        ("own", "t_p50_us", "thread start+join p50 us", -1),
        ("own", "t_max_us", "thread start+join max us", -1),
        ("own", "gc_ms", "GC ms", -1),
        ("own", "pswpin", "pages swapped in", 0),
        ("own", "fall_per_maj", "mmap_lock faults/major fault", -1),
    ],
    "e5": [("own", "passes_min", "passes/min", +1), ("own", "swapin_page", "swap-ins/page read", -1)],
    **{w: [("1t", "faults_s", "faults/s, 1 thread", +1), ("2t", "faults_s", "faults/s, 2 threads", +1)]
       for w in ("pf1", "pf2", "pf3")},
}


def experiments():
    return sorted(os.path.basename(p)[:-6] for p in glob.glob("experiments/*.patch"))


def kernels(build):
    """{name: output directory}, in the order of the table."""
    out = {"base": f"{build}/out/{ARCH}-perf-base"}
    out |= {n: f"{build}/exp/out/{ARCH}-perf-{n}" for n in experiments()}
    out["hard"] = f"{build}/out/{ARCH}-perf-series"
    return out


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def digest(paths):
    """The SHA-256 of what is in the files PATHS, one after the other."""
    h = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as f:
            h.update(hashlib.file_digest(f, "sha256").digest())
    return h.hexdigest()


class Boots:
    """Boots, made or kept."""

    def __init__(self, build, accel):
        self.build, self.accel = build, accel
        self.out = kernels(build)
        self.digests = {}
        for name, out in self.out.items():
            if not os.path.exists(f"{out}/initramfs.id"):
                sys.exit(f"evidence: no kernel {name} in {out}: make evidence makes it")

    def line(self, kernel, which, wanted):
        """(program, what guest.run() gets by name) of a set."""
        program, workloads, cpus, memory, append, extra = SETS[which]
        if kernel in experiments():
            program = [word for word in program if word != "floors"]
            workloads = [w for w in workloads
                         if w in ONLY.get(kernel, workloads) and which not in ("pf", "clocked")]
        if which == "clocked" and self.accel != "tcg":
            workloads = []	# only TCG can count instructions
        chosen = [w for w in workloads if not wanted or w in wanted
                  for _ in range(REPEAT.get(which, {}).get(w, 1))]
        how = {"append": append, "cpus": cpus, "memory": memory, "accel": self.accel}
        if extra and self.accel == "tcg":
            how |= {"accel": "tcg,thread=single", "extra": extra}
        return [*program, *chosen] if chosen else None, how

    def key(self, kernel, which, program, how):
        """What makes a boot what it is: the kernel, what it runs and how."""
        if (kernel, program[0]) not in self.digests:
            out = self.out[kernel]
            root = f"{out}/guest/root"
            mine = [p for p in sorted(glob.glob(f"{root}/**", recursive=True)) if os.path.isfile(p) and
                    (os.path.dirname(p) != f"{root}/bin" or os.path.basename(p) in ("sh", program[0]))]
            mine.remove(f"{root}/fs.blocks")	# thrash's: empty, but of another UUID each time
            self.digests[kernel, program[0]] = digest([f"{out}/{guest.arch_facts(ARCH)['IMAGE']}", *mine])
        key = hashlib.sha256(repr((self.digests[kernel, program[0]], program, how)).encode()).hexdigest()
        return key + (read(f"{self.build}/out/real.cpio.gz.id") if which == "real" else "")

    def run(self, kernel, which, number, wanted):
        """({(workload, how): [sample, ...]}, whether it was made now, host's load)."""
        program, how = self.line(kernel, which, wanted)
        out = self.out[kernel]
        key = self.key(kernel, which, program, how)
        log = f"{self.build}/evidence/{which}-{'-'.join(wanted) or 'all'}/{kernel}.{number}"
        os.makedirs(os.path.dirname(log), exist_ok=True)
        if os.path.exists(f"{log}.json"):
            kept = json.loads(read(f"{log}.json"))
            if kept["key"] == key:
                return parse_all(kept["output"], which), False, kept["load"]
        if which == "real":
            how = {**how, "initrd": f"{self.build}/evidence/initrd"}
            with open(how["initrd"], "wb") as f:
                for part in (f"{out}/initramfs.gz", f"{self.build}/out/real.cpio.gz"):
                    with open(part, "rb") as g:
                        shutil.copyfileobj(g, f)
        load = os.getloadavg()[0]
        r = guest.run(out, ARCH, program, log=log, timeout=1200, silence=300, **how)
        if r.verdict != "ok":
            sys.exit(f"{which} on {kernel}, round {number + 1}: {r.verdict}: {r.reason}; "
                     f"console: {r.console}\n{r.output}")
        with open(f"{log}.tmp", "w", encoding="utf-8") as f:
            json.dump({"key": key, "output": r.output, "seconds": r.seconds, "load": load}, f)
        os.rename(f"{log}.tmp", f"{log}.json")
        return parse_all(r.output, which), True, load


def parse_all(output, which):
    """The samples of a boot: a list for each (workload, how)."""
    found = {}
    for line in output.splitlines():
        if not line.startswith("R "):
            continue
        if which in ("contend", "clocked"):
            (key, s), = parse(line).items()
            key = key[0] + SUFFIX.get(which, ""), key[1]
            s["lost_per_fault"] = max(0.0, s["pgmajfault"] / s["faults"] - 1)
            s["abort_per_fault"] = s["vma_lock_abort"] / s["faults"]
        else:
            kv = dict(word.split("=", 1) for word in line.split()[1:])
            w, how = kv.pop("w"), kv.pop("how")
            key = w + SUFFIX.get(which, ""), how
            s = {k: float(v) for k, v in kv.items()}
            if "has_fallback" in s:
                # Without a counter: each retry goes to the mmap_lock.
                s["fall_per_maj"] = s["vma_lock_fallback" if s["has_fallback"] else
                                      "vma_lock_retry"] / max(s["pgmajfault"], 1)
            if "passes_s" in s:
                s["passes_min"] = s["passes_s"] * 60
                s["swapin_page"] = s["pswpin"] / s["pages"]
            if "rounds_s" in s:
                n = s["rounds_s"] * s["took"]
                s["refault_round"] = s["workingset_refault_file"] / n
                s["scan_round"] = s["pgscan_direct"] / n
                s["maj_round"] = s["pgmajfault"] / n
                s["retry_round"] = s["vma_lock_retry"] / n
        found.setdefault(key, []).append(s)
    return found


def table(samples, names):
    """The lines of the table, and {(workload, key, kernel): (median, ratio to base or None)};
    a ratio is (median, low, high)."""
    lines, facts = [], {}
    for w, title in TITLE.items():
        rows = [r for r in ROWS[w] if (w, r[0]) in samples["base"]]
        if not rows:
            continue
        lines += ["", title, "  " + " " * 28 + "".join(f"{n:>11}" for n in names) +
                  "  hard/base (95 % interval)"]
        for how, key, label, better in rows:
            v = {n: [s[key] for s in samples[n].get((w, how), [])] for n in names}
            for n in names:
                if not v[n]:
                    continue
                r = ratios(v["base"], v[n])
                facts[w, key, n] = (statistics.median(v[n]),
                                    (statistics.median(r), *bootstrap(r)) if r else None)
                if how != "own":
                    facts[w, f"{how} {key}", n] = facts[w, key, n]
            for other in names[1:-1]:
                if not v[other]:
                    continue
                r = ratios(v[other], v["hard"])
                if r:
                    facts[w, key, "hard", other] = (statistics.median(r), *bootstrap(r))
            ratio, mark = facts[w, key, "hard"][1], ""
            if ratio and better:
                lo, hi = ratio[1:]
                mark = " worse" if (lo > 1 if better < 0 else hi < 1) else \
                    " better" if (hi < 1 if better < 0 else lo > 1) else ""
            lines.append(f"  {label:<28}" + "".join(f"{num(facts[w, key, n][0]) if v[n] else '-':>11}" for n in names) +
                         (f"  {ratio[0]:.3g} [{ratio[1]:.3g}, {ratio[2]:.3g}]{mark}" if ratio else "  -"))
        floor = [s for n in names for s in samples[n].get((w, "floor"), [])]
        if floor:
            for key in ("w_mean_us", "w_p50_us", "stalled_ms"):
                facts[w, key, "floor"] = statistics.median(s[key] for s in floor), None
            lines.append(f"  floor, the faults in another process: writer mean "
                         f"{num(facts[w, 'w_mean_us', 'floor'][0])} us, p50 "
                         f"{num(facts[w, 'w_p50_us', 'floor'][0])} us, stalled "
                         f"{num(facts[w, 'stalled_ms', 'floor'][0])} ms")
    return lines, facts


def spread(path, samples, names):
    """Write what the table leaves out: a line for each row and kernel, as CSV."""
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(("workload", "how", "figure", "kernel", "runs", "median", "least", "most",
                      "ratio to base", "95 % from", "to"))
        for w in TITLE:
            rows = [(how, key) for how, key, *_ in ROWS[w]]
            if w in CONTEND:
                rows += [("floor", key) for how, key in rows if how == "own"]
            for how, key in rows:
                for n in names:
                    v = [s[key] for s in samples[n].get((w, how), [])]
                    if not v:
                        continue
                    r = ratios([s[key] for s in samples["base"][w, how]], v)
                    out.writerow((w, how, key, n, len(v), *(f"{x:.5g}" for x in (
                        statistics.median(v), min(v), max(v),
                        *((statistics.median(r), *bootstrap(r)) if r else ())))))


# The rows of the cover letter: workload, figure, label.
LETTER = [
    ("e1", "w_mean_us", "E1  mmap+munmap: mean us"),
    ("e1m", "w_mean_us", "E1m next to the faulted VMA: mean us"),
    ("e1i", "w_mean_us", "E1i idle faults, busy CPUs: mean us"),
    ("e1i", "stalled_ms", "    stalled ms, of 6000"),
    ("e1i", "faults_s", "    faults/s"),
    ("e1w", "w_mean_us", "E1w E1i by cpu.weight: mean us"),
    ("e1w", "stalled_ms", "    stalled ms, of 6000"),
    ("e1l", "w_mean_us", "E1l E1i, pages get lost: mean us"),
    ("e1l", "stalled_ms", "    stalled ms, of 6000"),
    ("e7", "w_mean_us", "E7  E1i by userfaultfd: mean us"),
    ("e7", "stalled_ms", "    stalled ms, of 6000"),
    ("e2", "w_p50_us", "E2  mprotect, file: p50 us"),
    ("e2", "w_mean_us", "    mean us"),
    ("e2s", "w_p50_us", "E2s mprotect, swap: p50 us"),
    ("e2l", "w_mean_us", "E2l E2, pages get lost: mean us"),
    ("e2l", "stalled_ms", "    stalled ms, of 3000"),
    ("e2l", "faults_s", "    faults/s"),
    ("e3", "w_mean_us", "E3  fork, 300 VMAs: mean us"),
    ("e3r", "w_mean_us", "E3r fork, pages get lost: mean us"),
    ("e6", "w_mean_us", "E6  mmap, io.max on faults: mean us"),
    ("e4", "rounds_s", "E4  thrash, 1 ms disk: rounds/s"),
    ("e4r", "rounds_s", "E4r without readahead: rounds/s"),
    ("e4s", "rounds_s", "E4s 10 ms disk: rounds/s"),
    ("e4/1", "rounds_s", "E4  one CPU: rounds/s"),
    ("e4r/1", "rounds_s", "E4r one CPU: rounds/s"),
    ("e4s/1", "rounds_s", "E4s one CPU: rounds/s"),
    ("e5", "passes_min", "E5  swap-in: passes/min"),
    ("rocksdb", "ops_s", "db_bench --mmap_read: reads/s"),
    ("jvm", "reads_s", "JVM, heap swaps: reads/s"),
    ("jvm", "t_mean_us", "    thread start+join: mean us"),
    ("pf1", "1t faults_s", "page_fault1, no waits: faults/s"),
    ("pf2", "1t faults_s", "page_fault2"),
    ("pf3", "1t faults_s", "page_fault3"),
]
# Where the noise of the host hides what is no worse.
LETTER_CLOCKED = [
    ("e1/i", "w_mean_us", "E1  mmap+munmap: mean us"),
    ("e1m/i", "w_mean_us", "E1m next to the faulted VMA: mean us"),
    ("e1l/i", "w_mean_us", "E1l idle, pages get lost: mean us"),
    ("e1l/i", "f_p99_us", "    fault p99 us"),
    ("e2/i", "w_mean_us", "E2  mprotect, file: mean us"),
    ("e3/i", "w_mean_us", "E3  fork, 300 VMAs: mean us"),
    ("e3r/i", "w_mean_us", "E3r fork, pages get lost: mean us"),
    ("e3r/i", "w_p99_us", "    p99 us"),
    ("e6/i", "w_mean_us", "E6  mmap, io.max on faults: mean us"),
]
# What the faults did to the mmap_lock, by its tracepoints.
LETTER_TRACE = [(w, f"trace {key}", f"{w[0].upper() + w[1:]:<4}{label}")
                for w in ("e1", "e1i", "e2", "e2l", "e3", "e6", "e7")
                for key, label in (("rd_per_fault", "read locks/fault"), ("rd_wait_ms", "read wait ms"),
                                   ("wr_wait_ms", "write wait ms"))]


def letter(facts, names):
    """The tables of the cover letter, 75 columns at most: the main one, in the guest's own time, the
    mmap_lock, the trade."""

    def short(x):
        return f"{x:.0f}" if x >= 1000 else num(x)

    def table_of(rows, kernels, with_ratio=False):
        shown = [n for n in kernels if n in names]
        lines = [" " * 36 + "".join(f"{n:>7}" for n in shown) + ("  hard/base" if with_ratio else "")]
        for w, key, label in rows:
            if (w, key, "hard") not in facts:
                continue
            line = f"{label[:36]:<36}" + "".join(
                f"{short(facts[w, key, n][0]) if (w, key, n) in facts else '-':>7}" for n in shown)
            ratio = facts[w, key, "hard"][1]
            lines.append(line + (f"  {ratio[0]:.2g}" if ratio and with_ratio else ""))
        return lines

    return [table_of(LETTER, ("base", "hold", "allow", "hard"), True),
            table_of(LETTER_CLOCKED, ("base", "hard"), True),
            table_of(LETTER_TRACE, ("base", "hold", "allow", "hard"))]


def targets(facts, names):
    """What the series promises of these figures: (text, kept) each."""
    out = []

    def value(w, key, kernel="hard"):
        return facts[w, key, kernel][0]

    def at_most(text, got, limit):
        out.append((f"{text}: {num(got)}, limit {num(limit)}", got <= limit))

    def no_worse(w, key, text, better, other="base", how="own"):
        key = key if how == "own" else f"{how} {key}"
        if (w, key, "hard") not in facts or (w, key, other) not in facts:
            return
        med, lo, hi = facts[w, key, "hard", other] if other != "base" else facts[w, key, "hard"][1]
        out.append((f"{text}: ratio {med:.3g} [{lo:.3g}, {hi:.3g}]", lo <= 1 if better < 0 else hi >= 1))

    if ("e1i", "w_mean_us", "floor") in facts:
        for key, text in (("w_mean_us", "mean"), ("stalled_ms", "stalled ms")):
            at_most(f"E1i writer's {text} <= 1/10 of base", value("e1i", key), value("e1i", key, "base") / 10)
        at_most("E1i writer's mean <= 1.5 of the floor", value("e1i", "w_mean_us"),
                1.5 * value("e1i", "w_mean_us", "floor"))
        at_most("E1i writer's stalled ms <= 1.5 of the floor's and 1 % of the run",
                value("e1i", "stalled_ms"), 1.5 * value("e1i", "stalled_ms", "floor") + 60)
    if ("e2", "w_p50_us", "hold") in facts:
        at_most("E2 writer's p50 <= 1/50 of hold", value("e2", "w_p50_us"), value("e2", "w_p50_us", "hold") / 50)
    no_worse("e2", "w_p50_us", "E2 writer's p50 no worse than base", -1)
    no_worse("e5", "passes_min", "E5 passes/min no less than base", +1)
    for w in ("e1", "e1m", "e3", "e3r", "e6"):
        no_worse(w, "w_mean_us", f"{TITLE[w][:4].strip()} writer's mean no worse than base", -1)
        no_worse(f"{w}/i", "w_mean_us", f"{TITLE[w][:4].strip()} writer's mean in the guest's own time "
                 "no worse than base", -1)
    for w in ("e4", "e4r", "e4s", "e4/1", "e4r/1", "e4s/1"):
        for other in ("hold", "allow"):
            no_worse(w, "rounds_s", f"{w} rounds/s no less than {other}", +1, other)
    no_worse("rocksdb", "ops_s", "db_bench reads/s no less than base", +1)
    no_worse("jvm", "reads_s", "JVM reads/s no less than base", +1)
    no_worse("jvm", "t_mean_us", "JVM thread start's mean no worse than base", -1)
    for w in ("pf1", "pf2", "pf3"):
        for how in ("1t", "2t"):
            no_worse(w, "faults_s", f"{w} faults/s, {how}, no less than base", +1, how=how)
    return out


def plot(results, samples, names):
    """The writer's mean wait on each kernel, a log scale."""
    shown = [w for w in CONTEND if (w, "own") in samples["base"]]
    data = f"{results}/evidence.dat"
    with open(data, "w", encoding="utf-8") as f:
        for name in [*names, "floor"]:
            for i, w in enumerate(shown):
                v = [s["w_mean_us"] for n in names for s in samples[n].get((w, "floor"), [])] \
                    if name == "floor" else [s["w_mean_us"] for s in samples[name].get((w, "own"), [])]
                f.write(f"{i} {w} {statistics.median(v)} {min(v)} {max(v)}\n" if v else "")
            f.write("\n\n")
    colours = ["#c44e52", "#8c8c8c", "#ccb974", "#64b5cd", "#4c72b0", "#55a868", "#937860"]
    width = 0.8 / (len(names) + 1)
    bars = []
    for i, name in enumerate([*names, "floor"]):
        at = f"($1{-0.4 + width * (i + 0.5):+.3f})"
        bars.append(f"'{data}' index {i} using {at}:3 with boxes lc rgb '{colours[i]}' title '{name}'")
        bars.append(f"'' index {i} using {at}:3:4:5 with yerrorbars lc rgb '#222222' ps 0 notitle")
    for term, name in (("svg size 1200,480 font 'sans,13' background 'white'", "evidence.svg"),
                       ("png size 1200,480", "evidence.png")):
        script = f"""
set terminal {term}
set output '{results}/{name}'
set title "How long mmap, mprotect or fork take while 32 threads of the process\\nwait for page faults (less is better)"
set ylabel 'writer, mean time of an operation (us, log scale)'
set logscale y
set yrange [10:*]
set xrange [-0.6:{len(shown) - 0.4}]
set style fill solid 0.8
set boxwidth {width:.3f}
set grid ytics
set key top right horizontal
set xtics ({', '.join(f"'{w.upper()}' {i}" for i, w in enumerate(shown))})
set xlabel "Medians (whiskers: least and most), QEMU/TCG, 2 vCPUs: waiting, not CPU speed"
set format y '%.0f'
plot {', '.join(bars)}
"""
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


def main():
    if len(sys.argv) < 3 or not sys.argv[2].isdigit() or int(sys.argv[2]) < 1:
        sys.exit(__doc__)
    build, rounds, wanted = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    known = CONTEND + REAL + QUICK + THRASH
    unknown = set(wanted) - set(known)
    if unknown:
        sys.exit(f"evidence: no workload {' '.join(unknown)}; known: {' '.join(known)}")
    results = f"{build}/results"
    os.makedirs(results, exist_ok=True)
    boots = Boots(build, guest.choose_accel(kernels(build)["hard"], ARCH, os.environ.get("ACCEL", "")))
    names = list(boots.out)
    samples = {n: {} for n in names}
    todo = [(r, which, names[(i + r) % len(names)]) for r in range(rounds) for which in SETS
            for i in range(len(names)) if boots.line(names[(i + r) % len(names)], which, wanted)[0]]
    start, made, loads, done = time.monotonic(), 0, [], {}

    def boot(what):
        r, which, name = what
        done[what] = boots.run(name, which, r, wanted)
        return what

    def tell(what):
        nonlocal made
        (r, which, name), (_, fresh, load) = what, done[what]
        made += fresh
        loads.append(load)
        took = time.monotonic() - start
        left = took / made * (len(todo) - len(done)) if made else 0
        print(f"@ {len(done)} of {len(todo)}, round {r + 1}: {which} on {name}" +
              (f", {took:.0f} s, about {left / 60:.0f} min left" if fresh else " (kept)"), flush=True)

    own_time = [what for what in todo if boots.line(what[2], what[1], wanted)[1].get("extra")]
    for what in todo:
        if what not in own_time:
            tell(boot(what))
    # A clock that counts instructions does not mind a neighbour.
    free_gib = int(re.search(r"MemAvailable: *(\d+)", read("/proc/meminfo")).group(1)) >> 20
    with concurrent.futures.ThreadPoolExecutor(max(1, min(os.cpu_count(), free_gib // 4))) as pool:
        try:
            for future in concurrent.futures.as_completed([pool.submit(boot, what) for what in own_time]):
                tell(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for what in todo:
        for key, s in done[what][0].items():
            samples[what[2]].setdefault(key, []).extend(s)

    lines, facts = table(samples, names)
    base = read(f"{build}/linux/.git/vfr-base").strip()
    spread(f"{results}/evidence.csv", samples, names)
    insns = count_insns(boots.out, ARCH) if boots.accel == "tcg" and not wanted else {}
    for how in sorted(insns.get("base", {})):
        lines += ["", f"guest instructions of a fault that succeeds at once ({how}): " +
                  ", ".join(f"{n} {insns[n][how]}" for n in names)]
    for w in ("e4/1", "e4r/1"):
        if boots.accel == "tcg" and {(w, "rounds_s", "hold"), (w, "rounds_s", "hard")} <= facts.keys():
            took = {n: 1e9 / facts[w, "rounds_s", n][0] for n in ("base", "hold", "hard")}
            lines += ["", f"guest instructions that a second attempt costs, by {w} against hold: " +
                      ", ".join(f"{n} {(took[n] - took['hold']) / facts[w, 'retry_round', n][0]:,.0f}"
                                for n in ("base", "hard"))]
    promised = targets(facts, names)
    text = "\n".join([
        f"base {base}, {ARCH}, QEMU/{boots.accel.upper()}; contend: 2 vCPUs, 32 faulting threads, 20 ms a read",
        f"medians of {rounds} interleaved rounds; ratio = hard/base [95 % interval of its median]",
        *(["E4, E5, and what is said to be in the guest's own time: its clock counts instructions,",
           "1 ns for each of either CPU (-icount); no noise of the host's, but the CPUs take turns"]
          if boots.accel == "tcg" else []),
        *lines, "",
        *(("kept:   " if ok else "BROKEN: ") + t for t, ok in promised), "",
        "Emulated CPUs (TCG): these times show waiting for locks and I/O, not the speed of code."]) + "\n"
    with open(f"{results}/evidence.txt", "w", encoding="utf-8") as f:
        f.write(text)
    with open(f"{results}/letter.txt", "w", encoding="utf-8") as f:
        f.write("\n\n".join("\n".join(t) for t in letter(facts, names)) + "\n")
    with open(f"{results}/evidence.json", "w", encoding="utf-8") as f:
        json.dump({
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "arch": ARCH, "accel": boots.accel, "base": base, "rounds": rounds,
            "kernels": {n: {"id": read(f"{o}/.vfr-complete").strip(),
                            "config_sha256": hashlib.sha256(read(f"{o}/.config").encode()).hexdigest()}
                        for n, o in boots.out.items()},
            "qemu": {w: guest.qemu_line(boots.out["hard"], ARCH, **boots.line("hard", w, [])[1]) for w in SETS},
            "host": {"cpus": os.cpu_count(), "machine": platform.machine(), "load_before_boots": loads},
            "insns": insns,
            "samples": {n: {"/".join(k): v for k, v in s.items()} for n, s in samples.items()},
        }, f, indent=1)
        f.write("\n")
    if any((w, "own") in samples["base"] for w in CONTEND):
        plot(results, samples, names)
    print(text)
    sys.exit(0 if all(ok for _, ok in promised) else 3)


if __name__ == "__main__":
    main()
