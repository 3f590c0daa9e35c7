#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Forward progress, fault injection and the attempts as a tracer sees them: base beside series.

    trust.py BUILD [--only WORD...]

x86-64, kernels of the flavour trust. Boots on base and series
    progress    guest/progress.c, with one CPU
    attempts    progress, guest/inject.c and lab/guest/attempts.c under the tracer of
                guest/trace-attempts.c
    broken      on the series only, what progress and inject must not let pass
and, before that, gives the tracer's judge made-up traces, among them a fault with four
attempts under the VMA lock. WORD: progress, attempts, inject (without the tracer), broken
or traces.

A test passes when it is ok on the series; or when it is stuck on base, too; or when it counts
rounds that spun, and on the series these are no more than chance has it, going by base's
(Fisher's exact test, one-sided, p >= 0.01), and none slept on. It failed when it is not ok on
the series for any other reason. A skipped test fails the whole: these kernels have all that is
asked for. Leaves the table in BUILD/results/trust.txt; prints "N passed, N failed, N skipped".
Exits non-zero if any test failed or was skipped.
"""
import argparse
import dataclasses
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, "lab")
# pylint: disable=wrong-import-position
import guest

ARCH = "x86_64"
TIMEOUT, SILENCE = 900, 180	# seconds; a case alone is silent for a minute at most
P_WORSE = 0.01

# A livelock is what progress looks for: neither RCU nor the lockup detector may end it.
ONE_CPU = "maxcpus=1 rcupdate.rcu_cpu_stall_suppress=1 nosoftlockup"

# What the programs must not let pass, and a word of how each is to be noticed.
BROKEN = {
    "progress": {"broken_spin": "stuck after", "broken_sleep": "handle_userfault",
                 "broken_slow": "slowest", "broken_data": "wrong data"},
    "inject": {"broken_data": "wrong data", "broken_nothing": ", 0 SIGBUS (64",
               "broken_after": "then 64 SIGBUS", "broken_hang": "stuck after"},
}

# Attempts as guest/trace-attempts.c writes them, made into a trace: what must be said on it.
# Behind the letter of the lock: m has FAULT_FLAG_MAJOR set.
ALLOWED = ""
MADE_UP = [
    ("series", "V", ALLOWED),
    ("series", "V+maj Vm", ALLOWED),
    ("series", "V+ V+ Vm", ALLOWED),
    ("series", "V+ V+ Vm+ Mt", ALLOWED),
    ("series", "V+ V+ Vm+ Mtm+ Mtm+ Mtm", ALLOWED),
    ("series", "V+maj Vm+maj Vm+maj Mt:bus", ALLOWED),
    ("series", "V! M", ALLOWED),
    ("series", "V!maj Mt", ALLOWED),
    ("series", "V+ V! M", ALLOWED),
    ("series", "V+maj Vm! Mt", ALLOWED),
    ("series", "V+ V+ Vm! Mt", ALLOWED),
    ("series", "V! M+ Vm! Mt", ALLOWED),
    ("series", "V! M+ Vm+ Vm+ Mt", ALLOWED),
    ("series", "M+ Vm+ Vm+ Mt", ALLOWED),	# the first look-up failed
    ("series", "V+ M", ALLOWED),		# the second one
    ("series", "V+maj Mm+ Vm+ Mt", ALLOWED),
    ("series", "V+ M+ Mm+ Mt", ALLOWED),	# the second and the third
    ("series", "V+ |V", ALLOWED),		# a signal, then a fault of its own
    ("base", "V+ M", ALLOWED),
    ("base", "V+maj Mt+ Mt", ALLOWED),
    ("series", "V+ V+ Vm+ Vm", "a fourth attempt under the VMA lock"),
    ("series", "V+ V V+ V+ V", "a fourth attempt under the VMA lock"),
    ("series", "M+ Vm+ Vm+ Vm", "without TRIED after three waits"),
    ("series", "V+ V+ Vm+ Mm", "without TRIED after three waits"),
    ("series", "V+maj Vtm", "TRIED under the VMA lock"),
    ("series", "M Mt", "an attempt after one that was not to be retried"),
    ("series", "V! V", "under the VMA lock again after a hard retry"),
    ("series", "V!maj Mt+ Vm", "under the VMA lock after TRIED"),
    ("series", "V! Mt", "with TRIED where base has it not"),
    ("series", "V+maj Mt", "with TRIED before three waits"),
    ("series", "V!maj Mm", "without TRIED where base has it"),
    ("series", "V+maj V", "MAJOR is not where base has TRIED"),
    ("series", "V+ Vm", "MAJOR is not where base has TRIED"),
    ("series", "V+ V+ V", "MAJOR is not where base has TRIED"),
    ("series", "M!", "RETRY_HARD under mmap_lock"),
    ("base", "V+ V", "under the VMA lock again in base"),
    ("base", "V+maj M", "without TRIED where base has it"),
    ("base", "V! M", "RETRY_HARD in base"),
]


def made_up(sequence):
    """The lines of a trace with this one fault, in the form tracefs gives them."""
    def line(text, n):
        return f"         fault 0-77      [001] .....  {n}.000001: {text}\n"
    lines, n = ["# tracer: nop\n"], 1
    for fault in sequence.split("|"):
        lines.append(line("page_fault_user: address=0x7f0000001000 ip=0x401234 error_code=0x4", n))
        for word in fault.split():
            letters = re.match("[VMtm]*", word)[0]
            flags = 0x54 | (0x1000 if letters[0] == "V" else 0)
            flags |= (0x20 if "t" in letters else 0) | (0x2000 if "m" in letters else 0)
            ret = 0x400 if re.search(r"[+!]", word) else 0x2 if word.endswith(":bus") else 0
            ret |= (0x8000 if "!" in word else 0) | (0x4 if word.endswith("maj") else 0)
            n += 1
            lines.append(line("attempt: (exc_page_fault+0x12/0x80 <- handle_mm_fault) "
                              f"address=0x7f0000001000 flags={flags:#x} ret={ret:#x}", n))
    return "".join(lines)


@dataclasses.dataclass
class Row:
    """name, what was seen on base and on the series, and the verdict: passed, failed, skipped."""
    name: str
    base: str
    series: str
    verdict: str
    why: str = ""


def traces():
    """Made-up traces for guest/trace-attempts.c, compiled for here."""
    rows = []
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-I", "lab/guest", "-o",
                        f"{d}/judge", "more/guest/trace-attempts.c"], check=True)
        for tree, sequence, want in MADE_UP:
            with open(f"{d}/trace", "w", encoding="utf-8") as f:
                f.write(made_up(sequence))
            r = subprocess.run([f"{d}/judge", tree, "judge", f"{d}/trace"], check=False,
                               capture_output=True, text=True)
            said = re.findall(r"NOT ALLOWED: (.*)$", r.stdout, re.M)
            ok = (r.returncode, said) == ((1, [want]) if want else (0, []))
            rows.append(Row(f"trace {tree}: {sequence}", "", "; ".join(said) or "allowed",
                            "passed" if ok else "failed",
                            "" if ok else f"wanted: {want or 'allowed'}"))
        # Nothing at all must not pass either.
        with open(f"{d}/trace", "w", encoding="utf-8"):
            pass
        r = subprocess.run([f"{d}/judge", "series", "judge", f"{d}/trace"], check=False,
                           capture_output=True, text=True)
        rows.append(Row("trace series: empty", "", f"status {r.returncode}",
                        "passed" if r.returncode == 2 else "failed"))
    return rows


class Boots:
    """The guests: their output and what they left in the table."""

    def __init__(self, build):
        self.build = build
        self.text = []		# sequences and other lines that belong below the table

    def boot(self, tree, name, program, append="", **kw):
        """{test: (ok, text)} of a program's KTAP, and why the guest itself is bad, or ""."""
        out = f"{self.build}/out/{ARCH}-{kw.pop('flavour', 'trust')}-{tree}"
        print(f"@ {tree}: {' '.join(program)}", flush=True)
        kw = {"timeout": TIMEOUT, "silence": SILENCE, **kw}
        for _ in range(2):
            r = guest.run(out, ARCH, program, append=append, log=f"{out}/{name}", **kw)
            if r.output.strip() or r.verdict in ("ok", "failed"):
                break
            # A busy host can keep a guest from coming up: told, and tried once more.
            print(f"@     {r.verdict} before any output: {r.reason}", flush=True)
            self.text += [f"{name} on {tree}: {r.verdict} before any output: {r.reason}", ""]
        tests = {}
        for no, test, text in re.findall(r"^(not )?ok \d+ (\S.*?) # (.*)$", r.output, re.M):
            tests[test] = not no, text
        bail = re.search(r"^Bail out! (.*)$", r.output, re.M)
        bad = "" if r.verdict in ("ok", "failed") else f"{r.verdict}: {r.reason}"
        print(f"@     {r.verdict}, {len(tests)} tests, {r.seconds:.0f} s", flush=True)
        sequences = re.findall(r"^# ( *\d+  [VM].*)$", r.output, re.M)
        if sequences:
            self.text += [f"attempts of {' '.join(program[3:])} on {tree}:", *sequences, ""]
        return tests, bad or (bail.group(1) if bail else "")

    def pair(self, name, make, append="", only=None):
        """Boot make(tree) on both; the rows of their comparison."""
        base, bad_base = self.boot("base", name, make("base"), append)
        series, bad_series = self.boot("series", name, make("series"), append)
        rows = []
        for test in dict.fromkeys([*base, *series]):
            if only and not only(test):
                continue
            rows.append(compare(f"{name}: {test}", base.get(test), series.get(test)))
        if not rows:
            rows.append(Row(f"{name}: any test", "", "", "failed", "none was run"))
        for tree, bad in (("base", bad_base), ("series", bad_series)):
            if bad:
                rows.append(Row(f"{name}: the guest", "", "", "failed", f"{tree}: {bad}"))
        return rows

    def broken(self):
        """Whether each way to be wrong is noticed, and as what it is."""
        rows = []
        for program, cases in BROKEN.items():
            tests, bad = self.boot("series", f"broken-{program}", [program, "broken"],
                                   ONE_CPU if program == "progress" else "")
            for test, word in cases.items():
                ok, text = tests.get(test, (True, "no result"))
                good = not ok and word in text
                rows.append(Row(f"{program}: {test}", "", text[:60],
                                "passed" if good else "failed",
                                "noticed" if good else f"wanted: not ok, '{word}'"))
            if bad:
                rows.append(Row(f"{program}: broken, the guest", "", "", "failed", bad))
        return rows


def rounds(result):
    """(spun, of, slept) of "3 of 300 rounds spun until SCHED_OTHER, 1 slept on ...", or None."""
    m = result and re.search(r"(\d+) of (\d+) rounds spun until SCHED_OTHER, (\d+) slept on",
                             result[1])
    return m and tuple(map(int, m.groups()))


def more_by_chance(bad, of, bad_base, of_base):
    """The probability that so many of the bad rounds, or more, are the series' by chance."""
    total, all_of = bad + bad_base, of + of_base
    return sum(math.comb(of, k) * math.comb(of_base, total - k)
               for k in range(bad, min(total, of) + 1)) / math.comb(all_of, total)


def compare(name, base, series):
    """The row of a test that said (ok, text) on base and on the series, None: nothing."""

    def word(x):
        return "missing" if x is None else "skipped" if x[1].startswith("SKIP") else \
            "ok" if x[0] else "not ok"
    row = Row(name, word(base), word(series), "failed")
    if "missing" in (row.base, row.series):
        row.why = "no result"
    elif "skipped" in (row.base, row.series):
        row.verdict, row.why = "skipped", (series if row.series == "skipped" else base)[1]
    elif row.series == "ok":
        row.verdict = "passed"
        row.why = "" if row.base == "ok" else f"base: {base[1]}"
    elif rounds(base) and rounds(series):
        # A matter of luck, so it may have been base's to be ok.
        (spun, of, slept), (spun_base, of_base, slept_base) = rounds(series), rounds(base)
        p = more_by_chance(spun, of, spun_base, of_base)
        row.verdict = "passed" if p >= P_WORSE and not slept else "failed"
        row.why = (f"spun: base {spun_base} of {of_base}, series {spun} of {of} rounds, p={p:.2g}; "
                   f"slept on: base {slept_base}, series {slept}")
    elif row.base == "ok":
        row.why = series[1]
    elif base[1].startswith("stuck after") and series[1].startswith("stuck after"):
        row.verdict, row.why = "passed", f"as base; series {series[1]}"
    else:
        row.why = f"on both; base: {base[1]}; series: {series[1]}"
    return row


def end(build, what, rows, text):
    """Leave a table with TEXT below it in BUILD/results/WHAT.txt, print it, how many passed, and exit."""
    count = {v: sum(r.verdict == v for r in rows) for v in ("passed", "failed", "skipped")}
    width = max(len(r.name) for r in rows)
    lines = [f"make more WHAT={what}, {time.strftime('%d %B %Y')}: base beside series, {ARCH}, QEMU/TCG", "",
             f"{'test':<{width}}  {'base':<8} {'series':<9} verdict"]
    lines += [f"{r.name:<{width}}  {r.base:<8} {r.series:<9} {r.verdict}"
              + (f": {r.why}" if r.why else "") for r in rows]
    lines += ["", *text]
    last = "{passed} passed, {failed} failed, {skipped} skipped".format(**count)
    path = Path(build, "results", f"{what}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, last]) + "\n", encoding="utf-8")
    print("\n".join("@ " + line for line in lines))
    print(last)
    sys.exit(count["passed"] != len(rows))


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", nargs="*", default=["traces", "broken", "progress", "attempts"],
                    choices=("traces", "broken", "progress", "inject", "attempts"))
    ap.add_argument("build")
    args = ap.parse_args()
    boots, rows = Boots(args.build), []
    if "traces" in args.only:
        rows += traces()
    if "broken" in args.only:
        rows += boots.broken()
    if "progress" in args.only:
        rows += boots.pair("progress", lambda tree: ["progress"], ONE_CPU)
    if "inject" in args.only:
        rows += boots.pair("inject", lambda tree: ["inject"])
    if "attempts" in args.only:
        for program in ("progress", "inject", "attempts"):
            # attempts itself is for make test, and progress was judged without the tracer.
            rows += boots.pair(f"traced {program}",
                               lambda tree, p=program: ["trace-attempts", tree, "run", p],
                               ONE_CPU if program == "progress" else "",
                               lambda test, p=program: test == "attempts" or p == "inject")
    end(args.build, "trust", rows, boots.text)


if __name__ == "__main__":
    main()
