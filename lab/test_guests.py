# SPDX-License-Identifier: GPL-2.0-only
"""What the kernels do in guests: the series on every architecture, the base on one."""
import fnmatch
import os

import pytest

import guest
import ktap
from conftest import boot
from test_series import assert_none, new_warnings, text_of

# The architecture whose base kernel is tested, too.
BASE_ARCH = "x86_64"
EXPECT = "lab/expect"
KSELFTEST = {"append": "hugepages=16 FAULT_RETRY_EXPECTED=1", "timeout": 1800, "silence": 1500}


def one_worker(arch, *values, tree="series"):
    """A parameter for tests of one kernel, all run by one worker of xdist, so that it boots once."""
    return pytest.param(arch, *values, marks=pytest.mark.xdist_group(f"{arch}-{tree}"))


def pytest_generate_tests(metafunc):
    """Parameters from lab/expect: what is tested of each architecture, and what on base."""
    names = metafunc.fixturenames
    behaviours = ktap.lines_of(f"{EXPECT}/behaviours")
    archs = metafunc.config.getoption("--arch").split()
    if "on_base" in names:
        fails = ktap.for_arch(f"{EXPECT}/kselftest-base-fails", BASE_ARCH)
        values = behaviours if "behaviour" in names else sorted({text.rpartition(": ")[0] for text in fails})
        key = "behaviour" if "behaviour" in names else "program"
        metafunc.parametrize(f"on_base,{key}", [one_worker(BASE_ARCH, value, tree="base") for value in values
                                                if BASE_ARCH in archs])
    elif "arch" in names:
        lists = {"behaviour": lambda arch: behaviours,
                 "program": lambda arch: sorted(ktap.for_arch(f"{EXPECT}/kselftests", arch)),
                 "mistake": lambda arch: ("alone", "mmap", "tried", "held")}
        key = next((key for key in lists if key in names), None)
        if key:
            metafunc.parametrize(f"arch,{key}", [one_worker(arch, value) for arch in archs
                                                 for value in lists[key](arch)])
        else:
            metafunc.parametrize("arch", [one_worker(arch) for arch in archs])


def kernel(build, arch, tree="series"):
    return f"{build}/out/{arch}-debug-{tree}"


def attempts(build, arch, tree="series"):
    """(guest.Result, {behaviour: (verdict, what was seen)}) of lab/guest/attempts.c."""
    r = boot(kernel(build, arch, tree), arch, "attempts")
    return r, ktap.parse(f"{build}/linux", r.output)


def kselftest(build, arch, program, tree="series"):
    """The same for a PROGRAM of tools/testing/selftests/mm, with its arguments."""
    r = boot(kernel(build, arch, tree), arch, *f"kselftest-{program}".split(), **KSELFTEST)
    return r, ktap.parse(f"{build}/linux", r.output)


def failures(got):
    return [f"{name}: {why}" for name, (verdict, why) in got.items() if verdict == "fail"]


def of_program(path, program):
    """What the lines "PROGRAM: TEXT" say for a PROGRAM with its arguments."""
    return [text for name, _, text in (line.rpartition(": ") for line in path) if name == program]


def test_builds(build, arch, record_property):
    """The kernel is there and has no compiler warning that base's has not."""
    out = kernel(build, arch)
    assert os.path.exists(f"{out}/.complete"), f"see {build}/logs/kernel-{arch}-debug-series.log"

    def say(tree):
        log = f"{kernel(build, arch, 'series' if tree == 'linux' else 'base')}/warnings.log"
        return text_of(log) if os.path.exists(log) else ""
    assert_none(new_warnings(say))
    record_property("seconds", float(text_of(f"{out}/build.seconds")))


def test_boots(build, arch, record_property):
    """The guest ends well, and the kernel complains of nothing. A behaviour is judged by itself."""
    r, got = attempts(build, arch)
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    assert not set(got) - set(ktap.lines_of(f"{EXPECT}/behaviours"))
    assert (r.verdict == "ok") == (not failures(got))
    record_property("seconds", r.seconds)


def test_behaviour(build, arch, behaviour):
    """It passes, or is skipped where lab/expect/skips says so."""
    verdict, why = attempts(build, arch)[1].get(behaviour, ("fail", "no result"))
    if behaviour in ktap.for_arch(f"{EXPECT}/skips", arch):
        assert verdict == "skip", f"{verdict}: {why}; take it out of lab/expect/skips"
        pytest.skip(why)
    assert verdict == "pass", f"{verdict}: {why}"


def test_behaviour_on_base(build, on_base, behaviour):
    """Base fails what is new with the series, and nothing else."""
    r, got = attempts(build, on_base, "base")
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    verdict, why = got.get(behaviour, ("missing", ""))
    if behaviour in ktap.lines_of(f"{EXPECT}/base-fails"):
        assert verdict == "fail", f"{verdict} ({why}): it proves nothing"
    elif behaviour in ktap.lines_of(f"{EXPECT}/base-may-fail"):
        assert verdict in ("pass", "fail")
    else:
        assert verdict == "pass", f"{verdict}: {why}"


def test_warns_of_mistake(build, arch, mistake):
    """A handler that breaks the contract (C1) makes the kernel warn."""
    want = "handle_mm_fault"
    if mistake == "held":
        want = "lock held when returning to user space"
        config = ktap.lines_of(f"{kernel(build, arch)}/.config")
        if "CONFIG_LOCKDEP=y" not in config:
            pytest.skip(f"no lockdep in this kernel, see lab/config/{arch}.config")
        if "CONFIG_GENERIC_IRQ_ENTRY=y" not in config:
            pytest.skip("this architecture does not ask lockdep at the return to user mode")
    r = boot(kernel(build, arch), arch, "attempts", f"bad-{mistake}")
    assert r.verdict == "splat" and want in r.reason, f"{r.verdict}: {r.reason}"


def test_kunit(build, arch, record_property):
    """The suites in the debug kernel ran at its boot, and skipped what is known."""
    r, _ = attempts(build, arch)
    got = ktap.parse(f"{build}/linux", text_of(r.console))
    assert_none(failures(got))
    assert not [suite for suite in ktap.lines_of(f"{EXPECT}/kunit-suites")
                if got.get(suite, ("missing", ""))[0] != "pass"]
    cases = {name: verdict for name, (verdict, _) in got.items()
             if not any(other.startswith(name + ".") for other in got)}
    skipped = sorted(name.rpartition(".")[2] for name, verdict in cases.items() if verdict == "skip")
    assert skipped == sorted(ktap.for_arch(f"{EXPECT}/kunit-skips", arch))
    record_property("count", len(cases) - len(skipped))
    record_property("skipped", len(skipped))


def test_kselftest(build, arch, program, record_property):
    """A program of tools/testing/selftests/mm passes, and skips what is known."""
    r, got = kselftest(build, arch, program)
    assert_none(failures(got))
    assert r.verdict == "ok", f"{r.verdict}: {r.reason}; console: {r.console}"
    known = of_program(ktap.for_arch(f"{EXPECT}/kselftest-skips", arch), program)
    skipped = [name for name, (verdict, _) in got.items() if verdict == "skip"]
    assert_none([f"{name}: skipped, but not in {EXPECT}/kselftest-skips" for name in skipped
                 if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)])
    assert_none([f"{pattern}: in {EXPECT}/kselftest-skips, but not skipped" for pattern in known
                 if set(fnmatch.filter(got, pattern)) - set(skipped) or not fnmatch.filter(got, pattern)])
    record_property("count", len(got) - len(skipped))
    record_property("skipped", len(skipped))


def test_kselftest_on_base(build, on_base, program):
    """Base fails what is new with the series, and nothing else."""
    r, got = kselftest(build, on_base, program, "base")
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    must = of_program(ktap.for_arch(f"{EXPECT}/kselftest-base-fails", on_base), program)
    may = of_program(ktap.lines_of(f"{EXPECT}/base-may-fail"), program)
    assert not [pattern for pattern in must + may if not fnmatch.filter(got, pattern)]
    new = {name for name in got if any(fnmatch.fnmatchcase(name, pattern) for pattern in must)}
    judged = {name: result for name, result in got.items() if name not in may}
    assert_none([f"{name}: {verdict}, so it proves nothing" for name, (verdict, _) in judged.items()
                 if name in new and verdict != "fail"])
    assert_none(failures({name: result for name, result in judged.items() if name not in new}))


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
    out = kernel(build, arch)
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
