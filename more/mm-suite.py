#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""tools/testing/selftests/mm on the base and on the series' kernel, test by test.

    mm-suite.py BUILD ARCH... [--only CATEGORY...] [--repeat N]

Runs in the build root, after root.sh, the kernels of the flavour mm, and mm-programs.sh.
Every category of run_vmtests.sh is run by that script (run_vmtests.sh -d -t CATEGORY), each
in a boot of its own; on x86_64 all of them, on others all but the SLOW ones. Beside these:
KUnit's suites of mm ("kunit"), and tools/testing/vma of either tree, in user space ("vma").

Both kernels run the same programs, those of the series' tree: only then is a test that
differs a difference of the kernels. Categories that the base tree's run_vmtests.sh does
not have are new with the series; they are run on both, and their results on the base
are listed, but are no differences.

The result is the TAP: that of run_vmtests.sh, a line a program, and that of each program.
A test passed, failed, was skipped, or is missing; a program that did not end because its
guest was lost (panic, hang, silence, no end, QEMU lost, too few results: all told apart)
is "lost", and what it had not run yet is missing. Each complaint of the kernel is a
failed test of "(kernel)". A category in which any test differs is run --repeat times more
on both kernels (3), and then a test that differs is

    new failure    worse (pass, skip, fail, none) than in any run on base in half or more of
                   the runs on series; or passed in no run there, and in most on base; or
                   failed under a name that base never has; or a complaint of the kernel
                   that base never makes, however rare
    missing        as that, without any result in half or more
    fixed          on base worse in half or more of the runs, and passed in all on series
    changed        one that passes on neither, otherwise than before, but not worse
    flaky          none of these: the counts of passes on both are given

A guest lost before it said a word of a test says nothing of that test: it is booted again,
BOOTS times at most, and such boots are counted beside the table, for either kernel. Base
and series run at the same time, each in a guest of its own. Of the categories that are new
with the series, lab/expect/kselftest-base-fails says what must fail on the base.

Runs are kept in BUILD/mm-suite by kernel, programs and the way they are run: one that was
made is not made again. Leaves the table in BUILD/results/mm-suite.txt.
Prints "N passed, N failed, N skipped" of series. Exits with 1 on a new failure, or a missing
result or a lost guest that base does not have in the same way, on a category without any
result, or when what it needs is not there, which it names.
"""
import argparse
import collections
import concurrent.futures
import dataclasses
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, "lab")
# pylint: disable=wrong-import-position
import guest
import ktap

# Categories that take long where everything is emulated, or need more than there is.
SLOW = {"cow", "gup_test", "hmm", "hugetlb", "hugevm", "ksm_numa", "memory-failure",
        "migration", "page_frag", "pkey", "rmap", "soft_dirty", "thp", "vmalloc"}
# Those that skip without a second NUMA node.
TWO_NODES = {"ksm_numa", "migration", "rmap"}
KUNIT = {"x86_64": ["list-test", "slub_kunit", "usercopy_kunit"],
         "arm64": ["list-test", "slub_kunit", "usercopy_kunit", "lazy_mmu_mode_kunit"]}
# The guest's disks, empty at first, and their sizes.
DISKS = {"work": 2 << 30, "swap": 1 << 30}
# Seconds for a category, and without any output, on slow emulated CPUs of a busy machine.
# The guest says once a minute that it is alive.
LIMIT, SILENCE = 5400, 300
# How often a guest is booted that is lost before it says a word of a test.
BOOTS = 3

TOP = re.compile(r"^(ok|not ok) \d+ (.*?)(?: # (SKIP|exit=\d+).*)?$")
SUB = re.compile(r"^#[# ]* (ok|not ok) \d+ ?(?:- )?(.*?)(?:\s*# ([A-Z]+)\b *([^(]*?) *(?:\(.*)?)?$")
VMALLOC = re.compile(r"Summary: (\w+) passed: \d+ failed: (\d+)")
# What is in a program's or a test's name and is not the same each time.
VARIES = re.compile(r"(?<=child with )\d+(?=MB)|(?<=/tmp/xfs_dir_)\w+|(?<=, iter )\d+|"
                    r"(?<=Extra pages )\d+ \([\d.]+%\)|(?<=extra thread faults )\d+")
# In a complaint of the kernel: times, CPUs, tasks, addresses, offsets.
VARIES_COMPLAINT = re.compile(r"^\[[^]]*\] *|\b(?:CPU|PID|pid)[:#] ?\d+|\b[\w./-]+/\d+\b|"
                              r"\b[0-9a-f]{8,}\b|\+?0x[0-9a-f]+(?:/0x[0-9a-f]+)?|\d+")
RUNNING = re.compile(r"^# running (?:bash )?(?:\./)?(.*)$")


@dataclasses.dataclass
class Run:
    """One category on one kernel. verdict: complete, or how the guest was lost;
    tests: {program: {test: outcome}}, where the test "" is the program's own line;
    lost_boots: how many guests were lost before."""
    verdict: str
    reason: str
    seconds: float
    tests: dict
    lost_boots: int = 0


def parse(output):
    """(tests, whether all announced results are there) of run_vmtests.sh's output."""
    tests, inner, program, plan, ended = {}, {}, None, None, 0

    def put(where, name, outcome):
        # The same name twice: two tests.
        n, unique = 1, name
        while unique in where:
            n += 1
            unique = f"{name} ({n})"
        where[unique] = outcome

    for line in output.splitlines():
        if m := RUNNING.match(line):
            program, inner = VARIES.sub("*", m[1]), {}
        elif m := TOP.match(line):
            outcome = "fail" if m[1] != "ok" else "skip" if m[3] == "SKIP" else "pass"
            put(tests, VARIES.sub("*", m[2]), {"": outcome, **inner})
            program, inner, ended = None, {}, ended + 1
        elif m := SUB.match(line):
            # ksft_test_result_skip() has the name behind the mark.
            put(inner, VARIES.sub("*", m[2] or m[4] or "?"), "fail" if m[1] != "ok" else
                {"SKIP": "skip", "XFAIL": "xfail"}.get(m[3], "pass"))
        elif m := re.match(r"^1\.\.(\d+)$", line):
            plan = int(m[1])
    if program is not None:
        put(tests, program, {"": "lost", **inner})
    return tests, plan is not None and plan == ended and ended > 0


def place(what, arch):
    """The folder of the cache that root.sh unpacks packages into: see debian.sh."""
    return "/cache/" + subprocess.run(["sh", "-c", f". more/debian.sh; place {what} {arch}"],
                                      capture_output=True, text=True, check=True).stdout.strip()


def load(path):
    """A JSON file's object; an empty one if there is no such file."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def devices(arch, root, share, where):
    """QEMU's arguments: the root file system, the share, a disk to work on (WHERE.work)
    and one to swap to (WHERE.swap)."""
    suffix = guest.arch_facts(arch)["SERIAL"].rpartition("-")[2]
    args = []
    for name, path in (("root", root), ("share", share)):
        args += ["-fsdev", f"local,id={name},path={path},security_model=none,readonly=on",
                 "-device", f"virtio-9p-{suffix},fsdev={name},mount_tag={name}"]
    for name in DISKS:
        args += ["-drive", f"if=none,id={name},file={where}.{name},format=raw,cache=unsafe",
                 "-device", f"virtio-blk-{suffix},drive={name},serial={name}"]
    return args


class Suite:
    """All runs of one architecture, made or kept."""

    def __init__(self, build, arch):
        self.build, self.arch = build, arch
        self.root = place("mm", arch)
        self.out = {tree: f"{build}/out/{arch}-mm-{tree}" for tree in ("base", "series")}
        self.share = {tree: f"{build}/out/mm-{arch}/{tree}" for tree in self.out}
        self.share_id = {}
        # What else a run depends on.
        facts = guest.arch_facts(arch)
        with open(guest.__file__, encoding="utf-8") as f:
            self.how = (sorted(facts.items()), f.read(), subprocess.run(
                [facts["QEMU"].split()[0], "--version"], capture_output=True, text=True,
                check=True).stdout)
        for tree in self.out:
            if not os.path.exists(f"{self.share[tree]}/.id"):
                sys.exit(f"mm-suite: no programs in {self.share[tree]}: "
                         "make more WHAT=mm-suite makes them")
            with open(f"{self.share[tree]}/.id", encoding="utf-8") as f:
                self.share_id[tree] = f.read()

    def categories(self):
        """(all in the order of run_vmtests.sh, those the base does not know)."""
        found = {}
        for tree, path in (("series", f"{self.share['series']}/mm"),
                           ("base", f"{self.build}/base/tools/testing/selftests/mm")):
            with open(f"{path}/run_vmtests.sh", encoding="utf-8") as f:
                found[tree] = list(dict.fromkeys(re.findall(r'CATEGORY="([\w-]+)"', f.read())))
        return found["series"], set(found["series"]) - set(found["base"])

    def plan(self, tree, category, log):
        """What guest.run() gets for a category: (program, the rest by name)."""
        how = {"append": "root=root rootfstype=9p ro init=/sbin/mm-init rootflags="
                         "trans=virtio,version=9p2000.L,cache=loose,msize=262144",
               "timeout": LIMIT, "silence": SILENCE, "memory": "4G", "cpus": 2,
               "initrd": f"{self.build}/out/mm-{self.arch}/empty.gz",
               "extra": devices(self.arch, self.root, self.share[tree], log)}
        if category in TWO_NODES:
            # migration wants two CPUs more than threads.
            how["cpus"] = "4,sockets=2"
            for node in (0, 1):
                how["extra"] += ["-object", f"memory-backend-ram,size=2G,id=m{node}", "-numa",
                                 f"node,memdev=m{node},cpus={2 * node}-{2 * node + 1}"]
        return [category, *(KUNIT[self.arch] if category == "kunit" else ["-d"])], how

    def boot(self, tree, category, log, key):
        """Run a category in a guest of its own. Leaves LOG.console, .result, .qemu, .json."""
        os.makedirs(os.path.dirname(log), exist_ok=True)
        # What it said of an earlier run must not speak for this one.
        if os.path.exists(f"{log}.json"):
            os.unlink(f"{log}.json")
        for name, size in DISKS.items():
            with open(f"{log}.{name}", "wb") as f:
                f.truncate(size)
        program, how = self.plan(tree, category, log)
        try:
            for lost in range(BOOTS):
                r = guest.run(self.out[tree], self.arch, program, log=log, **how)
                if r.output.strip() or r.verdict == "qemu lost" or lost + 1 == BOOTS:
                    break
                os.rename(r.console, f"{log}.lost-boot-{lost + 1}.console")
                print(f"@ {log}: lost while booting ({r.verdict}: {r.reason})", flush=True)
        finally:
            for name in DISKS:
                os.remove(f"{log}.{name}")
        with open(f"{log}.tmp", "w", encoding="utf-8") as f:
            json.dump({"key": key, "verdict": r.verdict, "reason": r.reason,
                       "seconds": round(r.seconds, 1), "lost_boots": lost}, f)
        os.rename(f"{log}.tmp", f"{log}.json")

    def run(self, tree, category, number):
        """The NUMBERth run of a category on a kernel: (Run, whether it was made now)."""
        log = f"{self.build}/mm-suite/{self.arch}-{tree}/{category}.{number}"
        key = hashlib.sha256(repr((self.share_id[tree], self.plan(tree, category, ""), self.how))
                             .encode()).hexdigest()
        kept = load(f"{log}.json")
        # A lost QEMU says nothing of the kernel: not kept.
        if fresh := kept.get("key") != key or kept["verdict"] == "qemu lost":
            self.boot(tree, category, log, key)
            kept = load(f"{log}.json")
        verdict, reason = kept["verdict"], kept["reason"]
        tests, whole = parse(guest.read_tail(f"{log}.result"))
        console = guest.read_tail(f"{log}.console")
        complaints = [m[0].strip() for text in (console, *(
            guest.read_tail(f"{log}.lost-boot-{n + 1}.console") for n in range(kept["lost_boots"])))
            for pattern in (guest.SPLATS, guest.PANIC) for m in pattern.finditer(text)]
        if verdict in ("ok", "failed", "splat"):
            verdict = "complete" if whole else "incomplete"
            reason = "" if whole else f"not all announced results are there ({reason})"
        # These modules tell the kernel's log alone.
        for m in VMALLOC.finditer(console):
            tests.setdefault("test_vmalloc", {"": "pass"})[m[1]] = "fail" if int(m[2]) else "pass"
        if complaints and not reason:
            reason = complaints[0]
        tests["(guest)"] = {"": "pass" if verdict == "complete" else "lost"}
        tests["(kernel)"] = {"": "fail" if complaints else "pass"} | \
            {VARIES_COMPLAINT.sub("*", c): "fail" for c in complaints}
        return Run(verdict, reason, kept["seconds"], tests, kept["lost_boots"]), fresh


def vma(build, root, tree):
    """tools/testing/vma of a tree, in user space: a Run. Built in a copy."""
    src, out = f"{build}/{'linux' if tree == 'series' else 'base'}", f"{build}/out/mm-vma-{tree}"
    start = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(f"{out}/lib-urcu")
    parts = ["tools/testing/vma", "tools/testing/shared", "tools/testing/radix-tree",
             "tools/include", "tools/arch", "tools/lib", "tools/scripts", "mm", "lib", "include"]
    subprocess.run(["rsync", "-aR", "--exclude=*.o", *(f"./{p}" for p in parts),
                    os.path.abspath(out)], cwd=src, check=True)
    libs = f"{root}/usr/lib/x86_64-linux-gnu"
    for name in os.listdir(libs):
        if name.startswith("liburcu") and ".so." in name:
            shutil.copy(f"{libs}/{name}", f"{out}/lib-urcu")
    with open(f"{build}/logs/mm-vma-{tree}.log", "w", encoding="utf-8") as log:
        built = subprocess.run(["make", "-C", f"{out}/tools/testing/vma",
                                f"CC=gcc --sysroot={root}"],
                               stdout=log, stderr=log, check=False).returncode == 0
    text, status = "", None
    if built:
        try:
            env = {**os.environ, "LD_LIBRARY_PATH": os.path.abspath(f"{out}/lib-urcu")}
            r = subprocess.run(["./vma"], cwd=f"{out}/tools/testing/vma", check=False, env=env,
                               capture_output=True, text=True, timeout=600)
            text, status = r.stdout + r.stderr, r.returncode
        except subprocess.TimeoutExpired:
            text = "no end within 600 s"
    tests = {"vma": {"": "pass" if status == 0 else "fail"}}
    m = re.search(r"(\d+) tests run, (\d+) passed, (\d+) failed", text)
    if m:
        # It names only those that fail.
        failed = re.findall(r"Test (\w+) FAILED", text)
        tests["vma"].update({f"one of its tests that passed ({i})": "pass"
                             for i in range(int(m[2]))})
        tests["vma"].update({name: "fail" for name in failed})
    verdict = "complete" if m and status is not None else "incomplete"
    reason = "" if m else "does not build" if not built else text.strip()[-200:]
    tests["(guest)"] = {"": "pass" if verdict == "complete" else "lost"}
    return Run(verdict, reason, time.monotonic() - start, tests)


# ---- comparing

def outcome(run, program, test):
    return run.tests.get(program, {}).get(test, "missing")


def names(runs):
    """All (program, test) of some runs, in their order."""
    return list(dict.fromkeys((p, t) for r in runs for p, tests in r.tests.items() for t in tests))


def differ(base, series):
    """The tests whose outcomes are not all the same."""
    return [n for n in names(base + series)
            if len({outcome(r, *n) for r in base + series}) > 1]


def judge(base, series, program, test):
    """(verdict, all outcomes) of a test that differs; see the top."""
    b, s = ([outcome(r, program, test) for r in runs] for runs in (base, series))
    rank = {"pass": 0, "xfail": 1, "skip": 1, "fail": 2}
    ranks_b, ranks_s = ([rank.get(o, 3) for o in x] for x in (b, s))
    if "fail" in s and "fail" not in b and (program == "(kernel)" or set(b) == {"missing"}):
        return "new failure", f"base {' '.join(b)}; series {' '.join(s)}"
    worse = sum(r > max(ranks_b) for r in ranks_s)
    better = sum(r > max(ranks_s) for r in ranks_b)
    passed_b, passed_s = b.count("pass"), s.count("pass")
    if 2 * worse >= len(s) or (not passed_s and 2 * passed_b > len(b)):
        word = "missing" if 2 * ranks_s.count(3) >= len(s) else "new failure"
    elif 2 * better >= len(b):
        word = "fixed" if passed_s == len(s) else "changed"
    elif len(set(b)) == len(set(s)) == 1:
        word = "changed"
    else:
        word = f"flaky (passed {passed_b} of {len(b)} on base, {passed_s} of {len(s)} on series)"
    return word, f"base {' '.join(b)}; series {' '.join(s)}"


def tally(run, program):
    """Passes, failures and skips of a program's tests; of itself if it names none."""
    tests = run.tests.get(program, {})
    inner = {t: o for t, o in tests.items() if t} or tests
    count = collections.Counter(inner.values())
    return (count["pass"], count["fail"] + count["lost"], count["skip"] + count["xfail"])


class Report:
    """The table, the lists below it, and the sums."""

    def __init__(self):
        self.rows = [("arch", "category", "program", "base p/f/s", "series p/f/s", "verdict")]
        self.notes, self.same_failures, self.apart = [], [], []
        self.sum = collections.Counter()
        self.words = collections.Counter()
        self.lost_boots = collections.Counter()

    def add(self, arch, category, base, series, new):
        for tree, runs in (("base", base), ("series", series)):
            self.lost_boots[tree] += sum(r.lost_boots for r in runs)
        differing = set() if new else set(differ(base, series))
        if any(not any(not p.startswith("(") for p in r.tests) for r in series):
            self.words["missing"] += 1
            self.notes.append(f"missing: {arch} {category}: no result at all: "
                              f"{series[0].verdict} ({series[0].reason})")
        for program in dict.fromkeys(p for p, _ in names(base + series)):
            one, two = tally(base[0], program), tally(series[0], program)
            verdicts = collections.Counter()
            for p, t in names(base + series):
                if p != program:
                    continue
                if (p, t) in differing:
                    word, counts = judge(base, series, p, t)
                    self.words[word.partition(" (")[0]] += 1
                    verdicts[word.partition(" (")[0]] += 1
                    self.notes.append(f"{word}: {arch} {category}: {p}: {t or '(itself)'}: "
                                      f"{counts}")
                elif outcome(series[0], p, t) in ("fail", "lost"):
                    (self.apart if new else self.same_failures).append(
                        f"{arch} {category}: {p}: {t or '(itself)'}: {outcome(series[0], p, t)}"
                        + (f" ({series[0].reason})" if p.startswith("(") else ""))
            if not program.startswith("("):
                self.sum.update(dict(zip(("passed", "failed", "skipped"), two)))
            elif not verdicts and two[0]:
                continue
            self.rows.append((arch, category, program,
                              "/".join(map(str, one)), "/".join(map(str, two)),
                              "new with the series" if new else
                              ", ".join(f"{n} {w}" for w, n in verdicts.items()) or "same"))
        if new:
            must_fail = ktap.for_arch("lab/expect/kselftest-base-fails", arch)
            for p, t in names(base + series):
                b, s = outcome(base[0], p, t), outcome(series[0], p, t)
                self.apart.append(f"{arch} {category}: {p}: {t or '(itself)'}: "
                                  f"base {b}, series {s}")
                # A program that has tests is judged by them.
                proves = any(fnmatch.fnmatchcase(f"{p}: {t}", m) for m in must_fail)
                if s in ("fail", "lost", "missing") or (proves and b in ("pass", "missing")) or \
                        (not proves and b == "fail" and t and s == "pass"):
                    self.words["new failure"] += 1
                    self.notes.append(f"new failure: {self.apart[-1]}" +
                                      (", must fail on base" if proves else ""))

    def bad(self):
        return sum(self.words[w] for w in ("new failure", "missing"))

    def summary(self):
        return (f"{self.sum['passed']} passed, {self.sum['failed']} failed, "
                f"{self.sum['skipped']} skipped")

    def text(self, head):
        width = [max(len(r[i]) for r in self.rows) for i in range(5)]
        lines = [*head, ""]
        lines += ["  ".join([*(c.ljust(w) for c, w in zip(r, width)), r[5]]) for r in self.rows]
        for title, notes in (("Differences:", self.notes),
                             ("Failures that are the same on both:", self.same_failures),
                             ("New with the series, run on both:", self.apart)):
            lines += ["", title, *(f"  {n}" for n in notes or ["none"])]
        lines += ["", f"new failures: {self.words['new failure']}, "
                  f"missing: {self.words['missing']}, fixed: {self.words['fixed']}, "
                  f"changed: {self.words['changed']}, "
                  f"flaky: {self.words['flaky']}",
                  f"boots lost before any test, and repeated: base {self.lost_boots['base']}, "
                  f"series {self.lost_boots['series']}",
                  f"series: {self.summary()}"]
        return "\n".join(lines) + "\n"


def say(k, n, start, what, run, fresh):
    count = collections.Counter(o for program, tests in run.tests.items()
                                if not program.startswith("(") for o in tests.values())
    t = int(time.monotonic() - start)
    print(f"@ [{k}/{n}] {t // 3600}:{t // 60 % 60:02}:{t % 60:02} {what}: {run.verdict}"
          + (f" ({run.reason})" if run.reason else "") + ", "
          + ", ".join(f"{count[o]} {o}" for o in ("pass", "fail", "skip", "lost") if count[o])
          + (f" ({run.seconds:.0f} s)" if fresh else " (kept)"), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("build")
    ap.add_argument("arch", nargs="+", choices=KUNIT)
    ap.add_argument("--only", nargs="*", help="some categories")
    ap.add_argument("--repeat", type=int, default=3)
    args = ap.parse_args()
    if os.getuid():
        # The guests' root file system is this machine's files, and must be root's.
        os.execvp("unshare", ["unshare", "-r", sys.executable, *sys.argv])
    start = time.monotonic()
    todo = []
    for arch in args.arch:
        suite = Suite(args.build, arch)
        known, new = suite.categories()
        known = [*known, "kunit"]
        if arch == "x86_64":
            known.append("vma")
        else:
            known = [c for c in known if c not in SLOW]
        todo += [(suite, c, c in new) for c in known if not args.only or c in args.only]
    # Two runs at once would write to the same disks.
    os.makedirs(f"{args.build}/mm-suite", exist_ok=True)
    lock = open(f"{args.build}/mm-suite/.lock", "w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("mm-suite: another run is at work in this clone: wait for its end")
    report = Report()
    pool = concurrent.futures.ThreadPoolExecutor(2)
    for k, (suite, category, new) in enumerate(todo, 1):
        runs = {"base": [], "series": []}
        for number in range(1, args.repeat + 2):
            if category == "vma":
                made = {tree: (vma(args.build, suite.root, tree), True) for tree in runs}
            else:
                made = {tree: pool.submit(suite.run, tree, category, number) for tree in runs}
                made = {tree: future.result() for tree, future in made.items()}
            for tree, done in runs.items():
                run, fresh = made[tree]
                done.append(run)
                say(k, len(todo), start, f"{suite.arch} {category} on {tree}" +
                    (f", again ({number - 1} of {args.repeat})" if number > 1 else ""), run, fresh)
            if new or not differ(*runs.values()):
                break
        report.add(suite.arch, category, *runs.values(), new)
    head = ["tools/testing/selftests/mm, KUnit, tools/testing/vma: base beside series, QEMU/TCG",
            "p/f/s: tests passed, failed, skipped in the first run (the program, if it names none).",
            f"Limits: {LIMIT} s a category, {SILENCE} s without output. Written by mm-suite.py."]
    os.makedirs(f"{args.build}/results", exist_ok=True)
    name = "mm-suite-some.txt" if args.only else "mm-suite.txt"
    with open(f"{args.build}/results/{name}", "w", encoding="utf-8") as f:
        f.write(report.text(head))
    for note in report.notes:
        print(f"@ {note}")
    print(report.summary())
    sys.exit(1 if report.bad() or not report.sum["passed"] else 0)


if __name__ == "__main__":
    main()
