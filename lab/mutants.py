# SPDX-License-Identifier: GPL-2.0-only
"""Break the series in one place at a time: its tests must notice (make mutants).

BUILD/linux is a clone of the tree, to break (lab/clone.sh). mutants/NAME.patch says in its
first line what it breaks, and then

    Builds:     the objects that see it. A changed header keeps its time, or all would be built
    Caught-by:  what should catch it, and runs first: kunit, kselftest, attempts or stall
    Shows:      a test of this program that must fail, too: what would be lost; may be repeated

Each mutant's kernel (x86_64, debug) boots the KUnit suites, the series' two kselftests and
the attempts, until a test fails. A guest that is lost or complains catches it if it does so
twice; a lost QEMU catches nothing. The series itself must pass all four first.
"""
import os
import re
from pathlib import Path

import pytest

import guest
import ktap
from conftest import build_kernel, kept, run

ARCH = "x86_64"
MUTANTS = sorted(Path("mutants").glob("*.patch"))
# Program, kernel parameters, seconds, seconds without output.
RUNS = {"kunit": ("hello", "", 120, 60),
        "kselftest": ("kselftest-fault-retry", "hugepages=16 FAULT_RETRY_EXPECTED=1", 600, 400),
        "attempts": ("attempts", "", 600, 400),
        "stall": ("kselftest-fault-retry-stall", "", 1200, 600)}


def values(path, field):
    """What the lines "FIELD: VALUE" of a mutant say."""
    head = path.read_text("utf-8").partition("\n\n")[0]
    return re.findall(f"^{field}: (.*)$", head, re.M)


def patch(build, path, *options):
    """Apply a mutant, or take it back with -R, and have built what sees it."""
    headers = re.findall(r"^\+\+\+ b/(\S+\.h)$", path.read_text("utf-8"), re.M)
    times = [(f"{build}/linux/{name}", os.stat(f"{build}/linux/{name}")) for name in headers]
    run("git", "-C", f"{build}/linux", "apply", *options, str(path.resolve()))
    for name, was in times:
        os.utime(name, ns=(was.st_atime_ns, was.st_mtime_ns))
    forget(build, path)


def forget(build, path):
    """Have the objects that see a mutant built anew."""
    for name in values(path, "Builds")[0].split():
        Path(build, f"out/{ARCH}-debug-series", name).unlink(missing_ok=True)


def failed(build, kind, tries=2):
    """The names of the tests that fail in a run of RUNS; or how the guest was lost, twice."""
    program, append, timeout, silence = RUNS[kind]
    out = f"{build}/out/{ARCH}-debug-series"
    r = guest.run(out, ARCH, [program], append=append, log=f"{out}/mutant-{kind}",
                  timeout=timeout, silence=silence)
    assert r.verdict != "qemu lost", f"{kind}: {r.reason}"
    tests = {}
    if r.verdict in ("ok", "failed", "splat"):
        text = r.output if kind != "kunit" else guest.read_tail(r.console)
        tests = {name: verdict for name, (verdict, _) in ktap.parse(f"{build}/linux", text).items()
                 if kind != "kunit" or name.startswith("vma_lock_retry") or name == ktap.WHOLE}
    names = [name for name, verdict in tests.items() if verdict == "fail"]
    if names or (r.verdict == "ok" and "pass" in tests.values()):
        return names
    return failed(build, kind, tries - 1) if tries > 1 else [f"the guest: {r.verdict}"]


def caught(build, path):
    """By what the mutant that is built is noticed."""
    first = values(path, "Caught-by")[0]
    for kind in sorted(RUNS, key=lambda kind: kind != first):
        names = failed(build, kind)
        missing = [test for test in values(path, "Shows") if test not in names]
        assert kind != first or not missing, f"{kind} passes {', '.join(missing)}"
        if names:
            return f"{kind}: {', '.join(names)}"
    return pytest.fail("survived", pytrace=False)


@pytest.fixture(scope="module", name="series")
def fixture_series(build):
    """The series itself passes everything; without what an interrupted run has left."""
    run("git", "-C", f"{build}/linux", "checkout", "-q", "-f", "--detach", "series")
    for path in MUTANTS:
        forget(build, path)
    build_kernel(build, ARCH)
    for kind in RUNS:
        assert not failed(build, kind)
        print(f"@ the series itself passes {kind}", flush=True)


@pytest.mark.parametrize("path", MUTANTS, ids=lambda path: path.stem)
def test_mutant(request, build, path, record_property):
    def make():
        request.getfixturevalue("series")
        patch(build, path)
        try:
            build_kernel(build, ARCH, KERNEL_ONLY="1")
            return caught(build, path)
        finally:
            patch(build, path, "-R")
    tree = run("git", "-C", f"{build}/linux", "rev-parse", "series^{tree}")
    record_property("why", kept(request.config, (tree, path.read_text("utf-8")), make))
