#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Measure base against series: interleaved pairs of boots, one table, one plot.

    measure.py BUILD ARCH PAIRS quick|long

Every boot runs guest/contend.c. Leaves BUILD/results/contend.json (all samples,
and what they were made with), table.txt, contend.svg and contend.png.

Ratios are series/base of the same pair; their median has a 95 % bootstrap
interval. "no worse" means that this interval does not lie wholly on the worse
side. Times of an emulated machine show waiting, not the speed of a CPU.
"""
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time

import guest

NULL_BLK = ("null_blk.nr_devices=1 null_blk.irqmode=2 null_blk.completion_nsec=20000000 "
            "null_blk.hw_queue_depth=256 null_blk.gb=256")
TITLE = {
    "e1": "E1   mmap+munmap elsewhere in the process",
    "e1m": "E1m  mmap+munmap next to the faulted VMA, merging with it",
    "e1i": "E1i  E1 with SCHED_IDLE faults, nice -20 writer, busy CPUs",
    "e2": "E2   mprotect of a part of the faulted VMA",
}
# key, name, unit, better is: -1 less, +1 more; of the run without tracing
ROWS = [
    ("w_mean_us", "writer mean", "us", -1),
    ("w_p50_us", "writer p50", "us", -1),
    ("w_p99_us", "writer p99", "us", -1),
    ("w_max_us", "writer max", "us", -1),
    ("stalled_ms", "writer stalled (>10 ms)", "ms", -1),
    ("ops_s", "writer operations/s", "", +1),
    ("f_p50_us", "fault p50", "us", -1),
    ("f_p99_us", "fault p99", "us", -1),
    ("faults_s", "faults/s", "", +1),
]
TRACE_ROWS = [
    ("rd_per_fault", "mmap_lock reads/fault", "", -1),
    ("rd_wait_ms", "mmap_lock read wait", "ms", -1),
    ("wr_wait_ms", "mmap_lock write wait", "ms", -1),
]


def parse(output):
    """The "R key=value ..." lines as {(workload, how): {key: number}}."""
    samples = {}
    for line in output.splitlines():
        if not line.startswith("R "):
            continue
        kv = dict(word.split("=", 1) for word in line.split()[1:])
        key = kv.pop("w"), kv.pop("how")
        s = {k: float(v) for k, v in kv.items()}
        s["ops_s"] = s["ops"] / s["took"]
        if s.get("trace_lost"):
            sys.exit(f"{key}: the trace buffer lost {s['trace_lost']:.0f} events")
        if "rd_locks" in s:
            # The faults of the 0.2 s before the trace began are in "faults".
            s["rd_per_fault"] = s["rd_locks"] / (s["took"] - 0.2) / s["faults_s"]
        samples[key] = s
    return samples


def bootstrap(values, rounds=2000):
    """The 95 % interval of the median of VALUES."""
    rng = random.Random(1)
    meds = sorted(statistics.median(rng.choices(values, k=len(values)))
                  for _ in range(rounds))
    return meds[int(rounds * 0.025)], meds[int(rounds * 0.975)]


def ratios(base, series):
    """series/base pair by pair; None where base is 0 (0/0 counts as 1)."""
    out = []
    for b, s in zip(base, series):
        if b:
            out.append(s / b)
        elif not s:
            out.append(1.0)
        else:
            return None
    return out


def num(x):
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def table(pairs):
    """The lines of the table, and {(workload, key): (median ratio, lo, hi)}."""
    lines, facts = [], {}
    lines.append(f"medians of {len(pairs)} interleaved pairs; ratio = series/base "
                 "[95 % interval]; spread = least..most")
    workloads = [w for w in TITLE if (w, "own") in pairs[0]["base"]]
    for w in workloads:
        lines += ["", TITLE[w],
                  f"  {'':<24}{'base':>10}{'series':>10}  {'ratio':<36}{'base spread':>20}{'series spread':>20}"]
        for rows, how in ((ROWS, "own"), (TRACE_ROWS, "trace")):
            for key, name, unit, better in rows:
                b = [p["base"][w, how][key] for p in pairs]
                s = [p["series"][w, how][key] for p in pairs]
                r = ratios(b, s)
                if r:
                    lo, hi = bootstrap(r)
                    med = statistics.median(r)
                    facts[w, key] = med, lo, hi
                    mark = ""
                    if better < 0 and lo > 1 or better > 0 and hi < 1:
                        mark = " worse"
                    elif better < 0 and hi < 1 or better > 0 and lo > 1:
                        mark = " better"
                    ratio = f"{med:.3g} [{lo:.3g}, {hi:.3g}]{mark}"
                else:
                    ratio = "-"
                label = f"{name} {unit}".strip()
                lines.append(f"  {label:<24}{num(statistics.median(b)):>10}"
                             f"{num(statistics.median(s)):>10}  {ratio:<36}"
                             f"{num(min(b)) + '..' + num(max(b)):>20}"
                             f"{num(min(s)) + '..' + num(max(s)):>20}")
        if (w, "floor") in pairs[0]["base"]:
            both = [p[k][w, "floor"] for p in pairs for k in ("base", "series")]
            lines.append("  floor, the faults in another process: writer mean "
                         f"{num(statistics.median(x['w_mean_us'] for x in both))} us, stalled "
                         f"{num(statistics.median(x['stalled_ms'] for x in both))} ms")
    return lines, facts


def targets(pairs, facts):
    """What the series promises of these figures: (text, kept) each."""
    def no_worse(w, key, name):
        med, lo, hi = facts[w, key]
        return (f"{name} no worse than base: ratio {med:.3g} [{lo:.3g}, {hi:.3g}]", lo <= 1)

    out = []
    for key, name in (("w_mean_us", "mean wait"), ("stalled_ms", "stalled time")):
        b = statistics.median(p["base"]["e1i", "own"][key] for p in pairs)
        s = statistics.median(p["series"]["e1i", "own"][key] for p in pairs)
        out.append((f"E1i writer's {name} <= 1/10 of base: {num(s)} against {num(b)}", s <= b / 10))
    out.append(no_worse("e1", "w_mean_us", "E1 writer's mean"))
    out.append(no_worse("e1", "w_p50_us", "E1 writer's p50"))
    out.append(no_worse("e1m", "w_mean_us", "E1m writer's mean"))
    out.append(no_worse("e2", "w_p50_us", "E2 writer's p50"))
    return out


def plot(results, pairs):
    """Writer waits of all pairs, base beside series, on a log scale."""
    data = f"{results}/contend.dat"
    workloads = [w for w in TITLE if (w, "own") in pairs[0]["base"]]
    with open(data, "w", encoding="utf-8") as f:
        for kernel in ("base", "series"):
            for i, w in enumerate(workloads):
                v = [p[kernel][w, "own"]["w_mean_us"] for p in pairs]
                f.write(f"{i} {w} {statistics.median(v)} {min(v)} {max(v)}\n")
            f.write("\n\n")
    for term, name in (("svg size 760,460 font 'sans,14' background 'white'", "contend.svg"),
                       ("png size 760,460", "contend.png")):
        script = f"""
set terminal {term}
set output '{results}/{name}'
set title "How long mmap/munmap/mprotect take while 32 threads\\nof the process wait for page-fault I/O (less is better)"
set ylabel 'writer, mean time of an operation (us, log scale)'
set logscale y
set yrange [10:*]
set xrange [-0.6:{len(workloads) - 0.4}]
set style fill solid 0.8
set boxwidth 0.35
set grid ytics
set key top left
set xtics ({', '.join(f"'{w.upper()}' {i}" for i, w in enumerate(workloads))})
set xlabel "Medians of {len(pairs)} pairs of boots (whiskers: least and most), QEMU/TCG:\\nwaiting, not CPU speed"
set format y '%.0f'
plot '{data}' index 0 using ($1-0.19):3 with boxes lc rgb '#c44e52' title 'base', \\
     '' index 0 using ($1-0.19):3:4:5 with yerrorbars lc rgb '#222222' ps 0 notitle, \\
     '' index 1 using ($1+0.19):3 with boxes lc rgb '#4c72b0' title 'series', \\
     '' index 1 using ($1+0.19):3:4:5 with yerrorbars lc rgb '#222222' ps 0 notitle
"""
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


def count_insns(out, arch):
    """Guest instructions of faults that succeed at once, by guest/insns.c with -icount:
    {kernel: {kind: number}} of {kernel: output directory}. Exits when a guest is lost."""
    insns = {}
    for k in out:
        r = guest.run(out[k], arch, ["insns"], accel="tcg,thread=single",
                      cpus=1, extra=["-icount", "shift=0"], log=f"{out[k]}/insns")
        if r.verdict != "ok":
            sys.exit(f"insns on {k}: {r.verdict}: {r.reason}; console: {r.console}")
        insns[k] = {line.split("how=")[1].split()[0]: int(line.rsplit("=", 1)[1])
                    for line in r.output.splitlines() if line.startswith("R ")}
    return insns


def main():
    if len(sys.argv) != 5 or sys.argv[4] not in ("quick", "long"):
        sys.exit(__doc__)
    build, arch, n, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if n < 1:
        sys.exit("measure.py: at least one pair is needed")
    results = f"{build}/results"
    os.makedirs(results, exist_ok=True)
    out = {k: f"{build}/out/{arch}-perf-{k}" for k in ("base", "series")}
    accel = guest.choose_accel(out["series"], arch, os.environ.get("ACCEL", ""))

    insns = count_insns(out, arch) if accel == "tcg" and arch == "x86_64" else {}

    pairs, start = [], time.monotonic()
    timeout = 600 if mode == "quick" else 1800
    for i in range(n):
        # Whoever goes first is not always the same.
        pair = {}
        for k in (("base", "series"), ("series", "base"))[i % 2]:
            r = guest.run(out[k], arch, ["contend", mode], append=NULL_BLK, accel=accel,
                          timeout=timeout, silence=180, log=f"{out[k]}/contend-{i}")
            if r.verdict != "ok":
                sys.exit(f"pair {i + 1}, {k}: {r.verdict}: {r.reason}; "
                         f"console: {r.console}\n{r.output}")
            pair[k] = parse(r.output)
        pairs.append(pair)
        took = time.monotonic() - start
        e = {k: pair[k]["e1i", "own"] for k in pair}
        print(f"@ pair {i + 1} of {n}, {took:.0f} s, about {took / (i + 1) * (n - i - 1):.0f} s left; "
              f"E1i writer mean: base {num(e['base']['w_mean_us'])} us, "
              f"series {num(e['series']['w_mean_us'])} us", flush=True)

    lines, facts = table(pairs)
    with open(f"{build}/linux/.git/vfr-base", encoding="utf-8") as f:
        base = f.read().strip()
    head = [f"base {base}, {arch}, QEMU/{accel.upper()}, 2 vCPUs, 32 faulting threads, "
            "20 ms a read, everything always cold"]
    for how in sorted(insns.get("base", {})):
        lines += ["", f"guest instructions of a fault that succeeds at once ({how}): "
                  f"base {insns['base'][how]}, series {insns['series'][how]}"]
    promised = targets(pairs, facts)
    lines += [""] + [("kept:   " if ok else "BROKEN: ") + text for text, ok in promised]
    if accel == "tcg":
        lines += ["", "Emulated CPUs (TCG): these times show waiting for locks and I/O, not the speed of code."]
    text = "\n".join(head + lines) + "\n"
    with open(f"{results}/table.txt", "w", encoding="utf-8") as f:
        f.write(text)
    with open(f"{results}/contend.json", "w", encoding="utf-8") as f:
        json.dump({
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "arch": arch, "accel": accel, "mode": mode, "base": base,
            "kernels": {k: open(f"{out[k]}/.vfr-complete", encoding="utf-8").read().strip()
                        for k in out},
            "qemu": guest.qemu_line(out["series"], arch, NULL_BLK, accel=accel),
            "host": {"cpus": os.cpu_count(), "machine": platform.machine(),
                     "load": os.getloadavg()},
            "insns": insns,
            "pairs": [{k: {"/".join(key): v for key, v in p[k].items()} for k in p}
                      for p in pairs],
        }, f, indent=1)
        f.write("\n")
    plot(results, pairs)
    print(text)
    sys.exit(0 if all(ok for _, ok in promised) else 3)


if __name__ == "__main__":
    main()
