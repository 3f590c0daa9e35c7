# SPDX-License-Identifier: GPL-2.0-only
"""What the kernels do in guests: the series on every architecture, the base on one."""
import fnmatch
import os
import re

import pytest

import guest
import ktap
from conftest import BASE_ARCH, boot, kernel
from test_series import new_warnings, sources

KSELFTEST = {"append": "hugepages=16 FAULT_RETRY_EXPECTED=1", "timeout": 1800.0, "silence": 1500.0}


def attempts(build, arch, tree):
    """(guest.Result, {behaviour: (verdict, what was seen)}) of lab/guest/attempts.c."""
    r = boot(build, arch, tree, "attempts", timeout=900.0, silence=300.0)
    return r, ktap.parse(f"{build}/linux", r.output)


def of_program(path, program):
    """What the lines "PROGRAM: TEXT" say for a PROGRAM with its arguments."""
    return [text for name, _, text in (line.rpartition(": ") for line in path) if name == program]


def test_builds(build, arch, cell):
    """The kernel is there and has no compiler warning that base's has not."""
    out = kernel(build, arch, "series")
    text = {tree: "" for tree in ("base", "series")}
    for tree in text:
        path = f"{build}/out/{arch}-debug-{tree}/warnings.log"
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as f:
                text[tree] = f.read()
    assert not new_warnings(text["base"], text["series"])
    with open(f"{out}/build.seconds", encoding="utf-8") as f:
        cell(arch, "builds", f"ok {f.read().strip()} s")


def test_boots(build, arch, cell):
    """The guest ends well, and the kernel complains of nothing. A behaviour is judged by itself."""
    r, got = attempts(build, arch, "series")
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    assert not set(got) - set(ktap.lines_of("lab/expect/behaviours"))
    assert (r.verdict == "ok") == all(verdict != "fail" for verdict, _ in got.values())
    cell(arch, "boots", f"ok {r.seconds:.0f} s")


def test_behaviour(build, arch, behaviour, cell):
    """It passes, or is skipped where lab/expect/skips says so."""
    verdict, why = attempts(build, arch, "series")[1].get(behaviour, ("fail", "no result"))
    if behaviour in ktap.for_arch("lab/expect/skips", arch):
        assert verdict == "skip", f"{verdict}: {why}; take it out of lab/expect/skips"
        pytest.skip(why)
    assert verdict == "pass", f"{verdict}: {why}"
    cell(arch, "behaviours", "1 passed")


def test_behaviour_on_base(build, on_base, behaviour):
    """Base fails what is new with the series, and nothing else."""
    r, got = attempts(build, on_base, "base")
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    verdict, why = got.get(behaviour, ("missing", ""))
    if behaviour in ktap.lines_of("lab/expect/base-fails"):
        assert verdict == "fail", f"{verdict} ({why}): it proves nothing"
    elif behaviour in ktap.lines_of("lab/expect/base-may-fail"):
        assert verdict in ("pass", "fail")
    else:
        assert verdict == "pass", f"{verdict}: {why}"


def test_warns_of_mistake(build, arch, mistake):
    """A handler that breaks the contract (C1) makes the kernel warn."""
    want = "handle_mm_fault"
    if mistake == "held":
        want = "lock held when returning to user space"
        config = ktap.lines_of(f"{kernel(build, arch, 'series')}/.config")
        if "CONFIG_LOCKDEP=y" not in config:
            pytest.skip(f"no lockdep in this kernel, see lab/config/{arch}.config")
        if "CONFIG_GENERIC_IRQ_ENTRY=y" not in config:
            pytest.skip("this architecture does not ask lockdep at the return to user mode")
    r = boot(build, arch, "series", f"attempts bad-{mistake}")
    assert r.verdict == "splat" and want in r.reason, f"{r.verdict}: {r.reason}"


def test_kunit(build, arch, cell):
    """The suites in the debug kernel ran at its boot, and skipped what is known."""
    r, _ = attempts(build, arch, "series")
    with open(r.console, encoding="utf-8", errors="replace") as f:
        got = ktap.parse(f"{build}/linux", f.read())
    assert not [f"{name}: {why}" for name, (verdict, why) in got.items() if verdict == "fail"]
    missing = [s for s in ktap.lines_of("lab/expect/kunit-suites") if got.get(s, ("", ""))[0] != "pass"]
    assert not missing
    cases = {name: verdict for name, (verdict, _) in got.items()
             if not any(other.startswith(name + ".") for other in got)}
    skipped = sorted(name.rpartition(".")[2] for name, verdict in cases.items() if verdict == "skip")
    assert skipped == sorted(ktap.for_arch("lab/expect/kunit-skips", arch))
    cell(arch, "KUnit", f"{len(cases) - len(skipped)} passed")


def test_kselftest(build, arch, program, cell):
    """A program of tools/testing/selftests/mm passes, and skips what is known."""
    r = boot(build, arch, "series", f"kselftest-{program}", **KSELFTEST)
    got = ktap.parse(f"{build}/linux", r.output)
    failed = [f"{name}: {why}" for name, (verdict, why) in got.items() if verdict == "fail"]
    assert r.verdict == "ok" and not failed, f"{r.verdict} {r.reason}, {failed}; see {r.console}"
    assert re.search(r"^# Totals: pass:[1-9]\d* fail:0 ", r.output, re.M)
    known = of_program(ktap.for_arch("lab/expect/kselftest-skips", arch), program)
    skipped = [name for name, (verdict, _) in got.items() if verdict == "skip"]
    new = [n for n in skipped if not any(fnmatch.fnmatchcase(n, k) for k in known)]
    old = [k for k in known if not fnmatch.filter(skipped, k) or set(fnmatch.filter(got, k)) - set(skipped)]
    assert not new, "skipped, but not in lab/expect/kselftest-skips"
    assert not old, "in lab/expect/kselftest-skips, but not skipped"
    cell(arch, "kselftest", f"{len(got) - len(skipped)} passed")


def test_kselftest_on_base(build, on_base, program):
    """Base fails what is new with the series, and nothing else."""
    r = boot(build, on_base, "base", f"kselftest-{program}", **KSELFTEST)
    got = ktap.parse(f"{build}/linux", r.output)
    assert r.verdict in ("ok", "failed") and "\n# Totals: " in r.output, f"{r.verdict} {r.reason}"
    must = of_program(ktap.for_arch("lab/expect/kselftest-base-fails", on_base), program)
    may = of_program(ktap.lines_of("lab/expect/base-may-fail"), program)
    assert not [pattern for pattern in must + may if not fnmatch.filter(got, pattern)], "match no test"
    new = {name for name in got if any(fnmatch.fnmatchcase(name, pattern) for pattern in must)}
    assert not [name for name in sorted(new - set(may)) if got[name][0] != "fail"], "prove nothing"
    assert not [f"{name}: {got[name][1]}" for name in sorted(set(got) - new - set(may))
                if got[name][0] == "fail"]


@pytest.mark.parametrize("program, want, options", [
    ("hello", "ok", {}),
    ("panic", "panic", {}),
    # Boots in 4 s here; slow machines get the longer limit by the first test.
    ("hang", "hang", {"timeout": 30.0, "silence": 25.0}),
    ("silent", "silent", {"silence": 15.0}),
    ("noend", "no end", {}),
    ("nosuchprogram", "failed", {}),
    ("splat", "splat", {}),
    ("hang", "qemu lost", {"lose_qemu_after": 6}),
    ("hello", "qemu lost", {"extra": ["-device", "nosuchdevice"]}),
], ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.xdist_group("verdicts")
def test_verdict(build, pytestconfig, program, want, options):
    """Each way in which a guest can end is told from the others."""
    arch = pytestconfig.getoption("--arch").split()[0]
    out = kernel(build, arch, "series")
    r = guest.run(out, arch, [program], log=f"{out}/verdict-{program}",
                  **{"timeout": 90.0, "silence": 60.0, **options})
    assert r.verdict == want, r.reason
    assert want == "ok" or r.reason


@pytest.mark.parametrize("text, bad", [
    ("TAP version 13\n1..1\nok 1 a\n", False),
    ("TAP version 13\nok 1 a\n1..1\n", False),
    ("TAP version 13\n1..2\nok 1 a\n", True),
    ("TAP version 13\nok 1 a\nok 3 c\n1..2\n", True),
    ("TAP version 13\n1..1\nnot ok 1 a\n", True),
    ("TAP version 13\n1..0\n", True),
    ("", True)])
def test_parser(build, text, bad):
    """Nothing but the whole of the results is a pass."""
    assert bad == any(verdict == "fail" for verdict, _ in ktap.parse(f"{build}/linux", text).values())


def test_lint(build, arch):
    """W=1 and sparse find nothing new in what the series touches."""
    series = sources(build, arch, "series")
    if series:	# without a warning there is nothing to compare
        assert not new_warnings(sources(build, arch, "base"), series)
