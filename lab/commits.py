# SPDX-License-Identifier: GPL-2.0-only
"""Build and boot every commit of the series on every architecture (make bisect).

BUILD/linux is a clone of the tree (lab/clone.sh). The debug kernel of each commit is built, in
order, and runs the attempts:

  - No commit may add a compiler warning.
  - From the architecture's own commit on, all behaviours must pass; before it, only those may
    fail that fail on the base kernel (lab/expect/base-fails).
  - What one commit brings to all architectures (BRINGS) must pass from that one on, and may
    fail before it.

A kernel that is the same to the bit as one that has run is not run again. (git rebase -x would
end at the first failure.)
"""
import hashlib
from pathlib import Path

import guest
import ktap
from conftest import assert_none, build_kernel, kept, run, text_of
from test_series import warnings

# Behaviours, by the first word of their names, and the subject of the commit they need.
BRINGS = {"B12": "userfaultfd: wake the waiters of all modes",
          "C11": "mm: count hard retries"}
# The same for what base does wrong on one architecture.
MENDS = {"riscv": {"B7": "riscv: mm: report SEGV_MAPERR"},
         "loongarch": {"B7": "LoongArch: mm: say SEGV_MAPERR"}}


def pytest_generate_tests(metafunc):
    """subjects: of all commits up to the one that is built."""
    log = run("git", "-C", f"{metafunc.config.getoption('--build')}/linux", "log", "--reverse",
              "--format=%H %T %s", "base..series")
    rows = [line.split(" ", 2) for line in log.splitlines()]
    subjects = [subject for *_, subject in rows]
    metafunc.parametrize("arch", metafunc.config.getoption("--arch").split())
    metafunc.parametrize("commit, tree, subjects", [
        (commit, tree, subjects[:n]) for n, (commit, tree, _) in enumerate(rows, 1)], ids=subjects)


def attempts(build, out, arch, subjects):
    """Run them on the kernel in OUT: "PASSED of ALL"."""
    r = guest.run(out, arch, ["attempts"], log=f"{out}/attempts", timeout=900, silence=300)
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    folder = "x86" if arch == "x86_64" else arch
    converted = "fault_retry_under_vma_lock(" in text_of(f"{build}/linux/arch/{folder}/mm/fault.c")
    missing = [word for word, subject in {**BRINGS, **MENDS.get(arch, {})}.items()
               if not any(text.startswith(subject) for text in subjects)]
    new = ktap.lines_of("lab/expect/base-fails") if not converted else []
    may_fail = [name for name in ktap.lines_of("lab/expect/behaviours")
                if name.split()[0] in missing or (name in new and not name.startswith("B12"))]
    may = {"fail": may_fail, "skip": ktap.for_arch("lab/expect/skips", arch)}
    got = ktap.parse(f"{build}/linux", r.output)
    names = [*ktap.lines_of("lab/expect/behaviours"), *({ktap.WHOLE} & got.keys())]
    results = [(name, *got.get(name, ("fail", "no result"))) for name in names]
    assert_none([f"{name}: {verdict}: {why}" for name, verdict, why in results
                 if verdict != "pass" and name not in may[verdict]])
    return f"{sum(verdict == 'pass' for _, verdict, _ in results)} of {len(names)}"


def test_commit(pytestconfig, build, arch, commit, tree, subjects, record_property):
    def make():
        run("git", "-C", f"{build}/linux", "checkout", "-q", "-f", "--detach", commit)
        out = build_kernel(build, arch, NO_KSELFTESTS="1")
        assert_none(sorted(warnings(text_of(f"{out}/warnings.log"))))
        kernel = hashlib.sha256(Path(out, "vmlinux").read_bytes()).hexdigest()
        return kept(pytestconfig, (arch, kernel), lambda: attempts(build, out, arch, subjects))
    record_property("why", kept(pytestconfig, (arch, tree), make))
