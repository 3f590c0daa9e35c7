#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Measure what the series changes: workloads on kernels, as a table and a picture.

    figures.py BUILD run|figures [--workloads "CODE ..."] [--kernels "NAME ..."]
               [--rounds N] [--time own|wall] [--jobs N]

run: a quick selection on base and series, told in five lines first. figures: all of
workloads.py on base, series and alternatives/. One workload a boot, the kernels in turns.
A boot that ends well is a sample, kept in BUILD/samples under a hash of kernel, program and
settings; only what is missing is made. Leaves BUILD/results/COMMAND.txt, .csv, .svg, .png.
Exits with 1 if a sample is missing.

Time is the guest's own: QEMU counts instructions, each takes 1 ns, the guest's CPUs take
turns, and the host's load does not matter. With --time wall, and with ACCEL=kvm, it is the
host's, and one guest runs at once.
"""
import argparse
import collections
import concurrent.futures
import functools
import glob
import gzip
import hashlib
import os
import re
import subprocess
import sys
import time

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
    for path in sorted(glob.glob("alternatives/*.patch")):
        with open(path, encoding="utf-8") as f:
            head = f.read().split("\n---", 1)[0]
        name = os.path.basename(path).removesuffix(".patch")
        out = f"{build}/alternatives/out/{ARCH}-perf-{name}"
        boots = re.findall(r"^Boot as (\S+): (.*)$", head, re.M) or [(name, "")]
        kernels[name] = {column: Kernel(out, append, f"{head.splitlines()[0]} {append}".strip())
                         for column, append in boots}
    return kernels


@functools.cache
def identity(out, program):
    """A hash of the kernel in the directory OUT and of the guest's PROGRAM."""
    if not os.path.exists(f"{out}/.complete"):
        sys.exit(f"figures: no kernel in {out}: make run or make figures builds it")
    with open(f"{out}/{guest.arch_facts(ARCH)['IMAGE']}", "rb") as f:
        digest = hashlib.file_digest(f, "sha256")
    with gzip.open(f"{out}/initramfs.gz") as f:
        found = subprocess.run(["cpio", "-i", "--quiet", "--to-stdout", f"*bin/{program}"],
                               input=f.read(), capture_output=True, check=True).stdout
    if not found:
        sys.exit(f"figures: no program {program} in {out}/initramfs.gz")
    digest.update(found)
    return digest.hexdigest()


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


def in_turns(names, number):
    """NAMES, begun by another one in each round NUMBER."""
    first = number % max(len(names), 1)
    return names[first:] + names[:first]


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
        with open(f"{job.path}.sample", encoding="utf-8") as f:
            return numbers(job.code, f.read())
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
    with open(f"{job.path}.new", "w", encoding="utf-8") as f:
        f.write(result.output)
    os.rename(f"{job.path}.new", f"{job.path}.sample")
    return "ok"


def measure(jobs, at_once):
    """Boot all JOBS; returns a line for each that made no sample."""
    failed = []
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(boot, job): job for job in jobs}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
                job = futures[future]
                left = (time.monotonic() - start) / done * (len(jobs) - done) / 60
                line = f"{job.code} on {job.kernel}, round {job.round}: {future.result()}"
                print(f"@ {done} of {len(jobs)}, about {left:.0f} min left: {line}", flush=True)
                if future.result() != "ok":
                    failed.append(line)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
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
    lines = [*report.in_words(facts), "",
             f"{ARCH}, QEMU/{args.accel.upper()}, {args.time} time, medians of {args.rounds} "
             "rounds. Emulated CPUs show waiting, not speed."]
    for name, kernel in kernels.items():
        with open(f"{kernel.out}/.complete", encoding="utf-8") as f:
            lines.append(f"{name:<8} {f.read(12)}  {kernel.words}")
    lines += ["", *report.table(facts, args.workloads, kernels, args.command == "run"), ""]
    lines += [f"NO SAMPLE: {line}" for line in failed]
    with open(f"{path}.txt", "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    report.write_csv(f"{path}.csv", facts)
    drawn = report.picture(path, facts)
    print(*lines, sep="\n")
    print(f"@ {path}.txt, .csv" + (", .svg and .png" if drawn else "; not enough for a picture"))


def main():
    """Read the command line, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("command", choices=("run", "figures"))
    parser.add_argument("--workloads", default="")
    parser.add_argument("--kernels", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--time", choices=("own", "wall"), default="own")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if min(args.rounds, args.jobs) < 1:
        parser.error("--rounds and --jobs are at least 1")
    brief = args.command == "run"
    known = all_kernels(args.build)
    names = chosen(args.kernels, known, ("base", "series") if brief else known)
    kernels = {column: kernel for name in names for column, kernel in known[name].items()}
    args.accel = guest.choose_accel(next(iter(kernels.values())).out, ARCH,
                                    os.environ.get("ACCEL", ""))
    if args.accel == "kvm":
        args.time = "wall"
    args.clock = OWN_TIME
    if args.time == "wall":
        args.clock = {"accel": args.accel}
        args.jobs = 1
    comparable = [code for code in WORKLOADS if args.time == "own" or code not in OWN_TIME_ONLY]
    args.workloads = chosen(args.workloads, comparable, QUICK if brief else comparable)

    jobs = [job_of(args, kernels, code, name, number)
            for number in range(1, args.rounds + 1) for code in args.workloads
            for name in in_turns(report.columns(code, kernels), number)]
    todo = [job for job in jobs if not kept(job)]
    print(f"@ {len(jobs)} boots, {len(jobs) - len(todo)} kept from before", flush=True)
    failed = measure(todo, args.jobs)
    samples = collections.defaultdict(list)
    for job in jobs:
        for row, number in kept(job).items():
            samples[job.code, row, job.kernel].append(number)
    os.makedirs(f"{args.build}/results", exist_ok=True)
    publish(f"{args.build}/results/{args.command}", args, kernels, report.facts_of(samples), failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
