#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Measure what the series changes: workloads on kernels, as a table and a picture.

    figures.py BUILD run|figures [--workloads "CODE ..."] [--kernels "NAME ..."]
               [--rounds N] [--time own|wall] [--jobs N] [--kept] [--list]

run: a quick selection on base and series, told in five lines first, in one round. figures: all
of workloads.py on base, series and alternatives/. One workload a boot, the kernels in turns.
A boot that ends well is a sample, kept in BUILD/samples under a hash of kernel, program and
settings; only what is missing is made, and with --kept nothing. Leaves BUILD/results/COMMAND.txt, .csv, .svg, .png.
Exits with 1 if a sample could not be made.

Time is the guest's own: QEMU counts instructions, each takes 1 ns, the guest's CPUs take
turns, and the host's load does not matter. With --time wall, and with ACCEL=kvm, it is the
host's, and one guest runs at once.
"""
import argparse
import collections
import concurrent.futures
import functools
import glob
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import guest
import report
from workloads import MEMORY, OWN_TIME_ONLY, QUICK, WORKLOADS

ARCH = "x86_64"
OWN_TIME = {"accel": "tcg,thread=single", "extra": ["-icount", "shift=0,sleep=off"]}
TIMEOUT = 1800  # seconds of the host for a boot
# out: where it was built; append: to its command line; words: what it is
Kernel = collections.namedtuple("Kernel", "out append words")
# settings: for guest.run(); path: of the sample and the logs
Job = collections.namedtuple("Job", "code kernel round out settings path")


def all_kernels(build):
    """{base, series or a patch's name: {column of the table: Kernel}}."""
    kernels = {name: {name: Kernel(f"{build}/out/{ARCH}-perf-{name}", "", words)}
               for name, words in (("base", "today's kernel"), ("series", "this series"))}
    for path in sorted(Path("alternatives").glob("*.patch")):
        head = path.read_text("utf-8").split("\n---", 1)[0]
        out = f"{build}/alternatives/out/{ARCH}-perf-{path.stem}"
        title = head.splitlines()[0]
        boots = re.findall(r"^Boot as (\S+): (.*)$", head, re.M) or [(path.stem, "")]
        kernels[path.stem] = {column: Kernel(out, append, f"{title} {append}".strip())
                              for column, append in boots}
    return kernels


@functools.cache
def identity(out, program):
    """A hash of the kernel in the directory OUT and of the guest's PROGRAM."""
    image = f"{out}/{guest.arch_facts(ARCH)['IMAGE']}"
    try:
        parts = [Path(path).read_bytes() for path in (image, f"{out}/guest/root/bin/{program}")]
    except FileNotFoundError as error:
        sys.exit(f"figures: no {error.filename}: make run or make figures builds it")
    return hashlib.sha256(b"".join(parts)).hexdigest()


def job_of(args, kernels, code, name, number):
    """The Job of the workload CODE on the kernel NAME in round NUMBER."""
    work = WORKLOADS[code]
    kernel = kernels[name]
    program = work.program.split()[0]
    # The programs make their disks.
    settings = {**args.clock, "memory": MEMORY[program], "cpus": work.cpus,
                "append": f"null_blk.nr_devices=0 {kernel.append} {work.append}".strip()}
    key = repr((identity(kernel.out, program), work.program, settings))
    key = hashlib.sha256(key.encode()).hexdigest()[:12]
    path = f"{args.build}/samples/{code}/{name}-{key}-{number}"
    return Job(code, name, number, kernel.out, settings, path)


def numbers(code, output):
    """{row: number} of what a guest printed; ValueError if one is missing."""
    lines = {}
    for line in re.findall("^R (.*)$", output, re.M):
        pairs = dict(word.split("=", 1) for word in line.split())
        lines[pairs.get("how")] = pairs
    found = {}
    for row in WORKLOADS[code].rows:
        line, _, keys = row.value.rpartition(":")
        try:
            values = [float(lines[line or "own"][key]) for key in keys.split("/")]
            found[row] = values[0] / values[1] if values[1:] else values[0]
        except (KeyError, ZeroDivisionError) as error:
            raise ValueError(f"no {row.value} in what it printed") from error
    return found


def kept(job):
    """The numbers of a job's sample; none if there is no good one."""
    try:
        return numbers(job.code, Path(f"{job.path}.sample").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def boot(job):
    """Make the sample of a job; returns "ok", or why there is none."""
    result = guest.run(job.out, ARCH, WORKLOADS[job.code].program.split(), log=job.path,
                       timeout=TIMEOUT, silence=TIMEOUT, **job.settings)
    if result.verdict != "ok":
        return f"{result.verdict}: {result.reason}; console: {result.console}"
    try:
        numbers(job.code, result.output)
    except ValueError as error:
        return f"{error}; console: {result.console}"
    Path(f"{job.path}.new").write_text(result.output, "utf-8")
    os.rename(f"{job.path}.new", f"{job.path}.sample")
    return "ok"


def measure(jobs, at_once):
    """Boot all JOBS; returns a line for each that made no sample."""
    failed = []
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for done, (job, said) in enumerate(zip(jobs, pool.map(boot, jobs)), 1):
            left = (time.monotonic() - start) / done * (len(jobs) - done) / 60
            line = f"{job.code} on {job.kernel}, round {job.round}: {said}"
            print(f"@ {done} of {len(jobs)}, about {left:.0f} min left: {line}", flush=True)
            if said != "ok":
                failed.append(line)
    return failed


def chosen(names, known, default):
    """The words of NAMES, or DEFAULT if there are none; SystemExit for one that is not known."""
    names = names.split() or list(default)
    for name in names:
        if name not in known:
            sys.exit(f"figures: no '{name}'; there are: {' '.join(known)}")
    return names


def publish(path, args, kernels, facts, failed):
    """Write and print what was found; PATH: of the results, without a suffix."""
    for old in glob.glob(f"{path}.*"):
        os.remove(old)
    rounds = sorted({one.rounds for one in facts.values()})
    lines = [*report.in_words(facts), "",
             f"{ARCH}, QEMU/{args.accel.upper()}, {args.time} time, medians of "
             f"{' to '.join(map(str, dict.fromkeys(rounds[:1] + rounds[-1:])))} rounds. "
             "Emulated CPUs show waiting, not speed."]
    lines += [f"{name:<8} {Path(kernel.out, '.complete').read_text('utf-8')[:12]}  {kernel.words}"
              for name, kernel in kernels.items()]
    lines += ["", *report.table(facts, args.workloads, kernels, args.command == "run"), ""]
    lines += [f"NO SAMPLE: {line}" for line in failed]
    Path(f"{path}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    report.write_csv(f"{path}.csv", facts)
    report.picture(path, facts)
    print(*lines, sep="\n")
    print("@ written:", *sorted(glob.glob(f"{path}.*")))


def main():
    """Read the command line, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("command", choices=("run", "figures"))
    parser.add_argument("--workloads", default="")
    parser.add_argument("--kernels", default="")
    parser.add_argument("--rounds", type=int, help="run: 1, figures: 3")
    parser.add_argument("--time", choices=("own", "wall"), default="own")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kept", action="store_true", help="tell what there is, boot nothing")
    parser.add_argument("--list", action="store_true", help="print the workloads' codes, and end")
    args = parser.parse_args()
    brief = args.command == "run"
    args.rounds = args.rounds or (1 if brief else 3)
    if min(args.rounds, args.jobs) < 1:
        parser.error("--rounds and --jobs are at least 1")
    known = all_kernels(args.build)
    names = chosen(args.kernels, known, ("base", "series") if brief else known)
    kernels = {column: kernel for name in names for column, kernel in known[name].items()}
    args.accel = guest.choose_accel(next(iter(kernels.values())).out, ARCH,
                                    os.environ.get("ACCEL", ""))
    args.clock = OWN_TIME
    if args.accel == "kvm" or args.time == "wall":
        args.time, args.clock, args.jobs = "wall", {"accel": args.accel}, 1
    comparable = [code for code in WORKLOADS if report.columns(code, kernels)
                  and (args.time == "own" or code not in OWN_TIME_ONLY)]
    args.workloads = chosen(args.workloads, comparable, QUICK if brief else comparable)
    if args.list:
        print(*args.workloads, sep="\n")
        return

    jobs = []
    for number in range(1, args.rounds + 1):
        for code in args.workloads:
            # Each round begins with another kernel.
            names = report.columns(code, kernels)
            first = number % len(names)
            jobs += [job_of(args, kernels, code, name, number)
                     for name in names[first:] + names[:first]]
    todo = [job for job in jobs if not (args.kept or kept(job))]
    print(f"@ {len(jobs)} boots, {len(todo)} of them to make", flush=True)
    failed = measure(todo, args.jobs)
    samples = collections.defaultdict(list)
    for job in jobs:
        for row, number in kept(job).items():
            samples[job.code, row, job.kernel].append(number)
    os.makedirs(f"{args.build}/results", exist_ok=True)
    facts = report.facts_of(samples)
    publish(f"{args.build}/results/{args.command}", args, kernels, facts, failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
