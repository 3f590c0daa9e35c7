# SPDX-License-Identifier: GPL-2.0-only
"""What the kernels do in guests: the series on every architecture, the base on one."""
import fnmatch
import os

import pytest

import figures
import guest
import ktap
from conftest import assert_none, boot, exceptions, kernel, text_of
from test_series import new_warnings
from workloads import MEMORY

# The architecture whose base kernel is tested, too.
BASE_ARCH = "x86_64"
EXPECT = "lab/expect"
KSELFTEST = {"append": "hugepages=16 FAULT_RETRY_EXPECTED=1", "timeout": 1800, "silence": 1500}


def programs(arch, tree):
    """Of the kernel's selftests, with their arguments."""
    if tree == "series":
        return sorted(ktap.for_arch(f"{EXPECT}/kselftests", arch))
    fails = ktap.for_arch(f"{EXPECT}/kselftest-base-fails", arch)
    return sorted({text.rpartition(": ")[0] for text in fails})


# What a test of an architecture may be about, beside it.
SUBJECTS = {"behaviour": lambda arch, tree: ktap.lines_of(f"{EXPECT}/behaviours"),
            "program": programs,
            "mistake": lambda arch, tree: ("alone", "mmap", "tried", "held")}


def pytest_generate_tests(metafunc):
    """The tests of one kernel are run by one worker of xdist, so that it boots once."""
    if "arch" not in metafunc.fixturenames:
        return
    tree = "base" if metafunc.function.__name__.endswith("_on_base") else "series"
    names = ["arch", *(name for name in SUBJECTS if name in metafunc.fixturenames)]
    rows = []
    for arch in metafunc.config.getoption("--arch").split():
        if tree == "series" or arch == BASE_ARCH:
            group = pytest.mark.xdist_group(f"{arch}-{tree}")
            subjects = SUBJECTS[names[1]](arch, tree) if names[1:] else [None]
            rows += [pytest.param(*(arch, subject)[:len(names)], marks=group)
                     for subject in subjects]
    metafunc.parametrize(names, rows)


def results(build, arch, *program, tree="series", **how):
    """(guest.Result, {test: (verdict, what was seen)}) of a program in a guest."""
    r = boot(kernel(build, arch, tree), arch, *program, **how)
    return r, ktap.parse(f"{build}/linux", r.output)


def failures(got):
    return [f"{name}: {why}" for name, (verdict, why) in got.items() if verdict == "fail"]


def of_program(path, program):
    """What the lines "PROGRAM: TEXT" say for a PROGRAM with its arguments."""
    return [text for name, _, text in (line.rpartition(": ") for line in path) if name == program]


def test_builds(build, arch, record_property):
    """The kernel is there and has no compiler warning that base's has not."""
    out = kernel(build, arch)

    def say(tree):
        log = f"{build}/out/{arch}-debug-{'series' if tree == 'linux' else tree}/warnings.log"
        return text_of(log) if os.path.exists(log) else ""
    assert_none(new_warnings(say))
    record_property("seconds", float(text_of(f"{out}/build.seconds")))


def test_boots(build, arch, record_property):
    """The guest ends well, and the kernel complains of nothing. A behaviour is judged by itself."""
    r, got = results(build, arch, "attempts")
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    assert not set(got) - set(ktap.lines_of(f"{EXPECT}/behaviours"))
    assert (r.verdict == "ok") == (not failures(got))
    record_property("seconds", r.seconds)


def test_behaviour(build, arch, behaviour):
    """It passes, or is skipped where lab/expect/skips says so."""
    verdict, why = results(build, arch, "attempts")[1].get(behaviour, ("fail", "no result"))
    if behaviour in (*ktap.for_arch(f"{EXPECT}/skips", arch), *exceptions(build)):
        assert verdict == "skip", f"{verdict}: {why}; take it out of lab/expect/skips"
        pytest.skip(why)
    assert verdict == "pass", f"{verdict}: {why}"


def test_behaviour_on_base(build, arch, behaviour):
    """Base fails what is new with the series, and nothing else."""
    r, got = results(build, arch, "attempts", tree="base")
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    verdict, why = got.get(behaviour, ("missing", ""))
    if behaviour in exceptions(build):
        assert verdict == "skip"
        pytest.skip(why)
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
        # Of older kernels only the second has a name.
        if not {"CONFIG_GENERIC_IRQ_ENTRY=y", "CONFIG_GENERIC_ENTRY=y"} & set(config):
            pytest.skip("this architecture does not ask lockdep at the return to user mode")
    r = boot(kernel(build, arch), arch, "attempts", f"bad-{mistake}")
    assert r.verdict == "splat" and want in r.reason, f"{r.verdict}: {r.reason}"


def test_kunit(build, arch, record_property):
    """The suites in the debug kernel ran at its boot, and skipped what is known."""
    r, _ = results(build, arch, "attempts")
    got = ktap.parse(f"{build}/linux", text_of(r.console))
    assert_none(failures(got))
    assert not [suite for suite in ktap.lines_of(f"{EXPECT}/kunit-suites")
                if got.get(suite, ("missing", ""))[0] != "pass"]
    cases = {name: verdict for name, (verdict, _) in got.items()
             if not any(other.startswith(name + ".") for other in got)}
    skipped = [name.rpartition(".")[2] for name, verdict in cases.items() if verdict == "skip"]
    assert sorted(skipped) == sorted(ktap.for_arch(f"{EXPECT}/kunit-skips", arch))
    record_property("count", len(cases) - len(skipped))
    record_property("skipped", len(skipped))


def test_kselftest(build, arch, program, record_property):
    """A program of tools/testing/selftests/mm passes, and skips what is known."""
    for name in {program, f"{program} on {arch}"} & exceptions(build).keys():
        pytest.skip(exceptions(build)[name])
    without = "".join(f" -V {variant}" for variant in
                      of_program(exceptions(build), f"{program} on {arch}"))
    r, got = results(build, arch, *f"kselftest-{program}{without}".split(), **KSELFTEST)
    ended = [f"{r.verdict}: {r.reason}; console: {r.console}"] if r.verdict != "ok" else []
    # The first line is what the end of a run shows.
    assert_none(failures(got) + ended if r.verdict == "failed" else ended + failures(got))
    known = of_program(ktap.for_arch(f"{EXPECT}/kselftest-skips", arch), program)
    skipped = [name for name, (verdict, _) in got.items() if verdict == "skip"]
    meant = {pattern: set(fnmatch.filter(got, pattern)) for pattern in known
             if f"{program}: {pattern}" not in exceptions(build)}
    assert_none([f"{name}: skipped, but not in {EXPECT}/kselftest-skips"
                 for name in set(skipped).difference(*meant.values())])
    assert_none([f"{pattern}: in {EXPECT}/kselftest-skips, but not skipped"
                 for pattern, names in meant.items() if not names or names - set(skipped)])
    record_property("count", len(got) - len(skipped))
    record_property("skipped", len(skipped))


def test_kselftest_on_base(build, arch, program):
    """Base fails what is new with the series, and nothing else."""
    r, got = results(build, arch, *f"kselftest-{program}".split(), tree="base", **KSELFTEST)
    assert r.verdict in ("ok", "failed"), f"{r.verdict}: {r.reason}; console: {r.console}"
    must = of_program(ktap.for_arch(f"{EXPECT}/kselftest-base-fails", arch), program)
    may = of_program(ktap.lines_of(f"{EXPECT}/base-may-fail"), program)
    assert not [pattern for pattern in must + may if not fnmatch.filter(got, pattern)]
    new = {name for pattern in must for name in fnmatch.filter(got, pattern)} - set(may)
    assert_none([f"{name}: {got[name][0]}, so it proves nothing" for name in new
                 if got[name][0] != "fail"])
    assert_none(failures({name: got[name] for name in got.keys() - new - set(may)}))


@pytest.mark.xdist_group(f"{figures.ARCH}-series")
def test_writer(build, pytestconfig):
    """The program behind most figures prints all that is asked of it; of E2i most is."""
    if figures.ARCH not in pytestconfig.getoption("--arch").split():
        pytest.skip(f"figures are made on {figures.ARCH}")
    r = boot(kernel(build, figures.ARCH), figures.ARCH, "writer", "e2i",
             append="null_blk.nr_devices=0", memory=MEMORY["writer"])
    assert r.verdict == "ok", f"{r.verdict}: {r.reason}; console: {r.console}"
    assert figures.numbers("e2i", r.output)


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
    assert bad == bool(failures(ktap.parse(f"{build}/linux", text)))
