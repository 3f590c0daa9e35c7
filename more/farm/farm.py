#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Write job files for LAVA, or check all of them against LAVA's own schema.

    farm.py TEST ARCH URL [DEVICE]    print the job: for QEMU, or for a DEVICE type of the farm
    farm.py --check

TEST: of tests.yaml. URL: where the farm finds build/7.3/out. The check needs Debian's
lava-common, and is skipped without it.
"""
import re
import string
import sys
from pathlib import Path

try:
    import yaml
    from lava_common.schemas import validate
    from voluptuous import Invalid
except ImportError as error:
    print(f"@ skipped farm: {error}: apt-get install lava-common")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit()

HERE = Path(__file__).parent
TESTS = yaml.safe_load((HERE / "tests.yaml").read_text("utf-8"))
ARCHS = {row.split()[0]: row.split() for row in
         (HERE / "../../lab/config/archs").read_text("utf-8").splitlines() if row[:1] not in "#"}
# ok 1 NAME, not ok 1 NAME, ok 1 NAME # SKIP WHY: the result is what "fixupdict" names.
PATTERN = (r"(?=(ok [^#\r\n]*(?=# SKIP))?(?P<result># SKIP|not ok|ok))"
           r"(not )?ok \d+ (?P<test_case_id>[^\r\n#]*[^\r\n# ])[^\r\n]*\r?\n")
# What LAVA must refuse: a key of a good job, and what it becomes.
MISTAKES = {"job_name": "job_nmae", "image_arg": "image_args", "prompts": "promtps",
            "pattern": "patern", "to: ": "two: ", "minutes: 60": "minutes: 5"}
# Lines of a console, and the results that the pattern must find in them.
LINES = ("ok 1 B1 waits # V V, maj 1\r\n", "not ok 2 a.b\r\n", "ok 3 a # SKIP no ok here\r\n",
         "ok 4 not ok\r\n", "# ok\r\n")
FOUND = [("ok", "B1 waits"), ("not ok", "a.b"), ("# SKIP", "a"), ("ok", "not ok")]


def job(test, arch, url, device=""):
    """The text of a job file."""
    words = ARCHS[arch]
    template = (HERE / ("device.yaml" if device else "qemu.yaml")).read_text("utf-8")
    return string.Template(template).substitute(
        TESTS["jobs"][test]["params"], test=test, arch=arch, url=url, device=device,
        image=words[3], console=words[4], emulator=words[7].removeprefix("qemu-system-"),
        machine=" ".join(words[8:]), pattern=PATTERN)


def refused(text):
    """Why LAVA refuses a job file; none if it does not."""
    try:
        validate(yaml.safe_load(text))
    except Invalid as why:
        return str(why)
    return ""


def listed(path, *keys):
    """The architectures in a matrix of a CI's file."""
    found = yaml.safe_load((HERE / "../.." / path).read_text("utf-8"))
    for key in keys:
        found = found[key]
    return "" if found == list(ARCHS) else f"{found}, but lab/config/archs has {list(ARCHS)}"


def check():
    """Print a line a check; returns whether all went well."""
    cases = {}
    for test in TESTS["jobs"]:
        for arch in ARCHS:
            for device in ("", "board"):
                text = job(test, arch, "https://farm/out", device)
                cases[f"{test} on {arch} {device or 'in QEMU'}"] = refused(text)
    for device in ("", "board"):
        text = job(next(iter(TESTS["jobs"])), "arm64", "https://farm/out", device)
        for good, bad in MISTAKES.items():
            if good in text:
                cases[f"refused: {bad} {device}"] = \
                    "" if refused(text.replace(good, bad)) else "it was not"
    found = [match.group("result", "test_case_id") for match in
             re.finditer(PATTERN, "".join(LINES))]
    cases["pattern"] = "" if found == FOUND else f"found {found}"
    cases[".gitlab-ci.yml"] = listed(".gitlab-ci.yml", "test", "parallel", "matrix", 0, "ARCH")
    cases["GitHub"] = listed(".github/workflows/test.yml", "jobs", "test", "strategy", "matrix",
                             "arch")
    for name, wrong in cases.items():
        print(f"@ FAILED  {name}: {wrong}" if wrong else f"@ ok      {name}")
    failed = sum(map(bool, cases.values()))
    print(f"{len(cases) - failed} passed, {failed} failed, 0 skipped")
    return not failed


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(not check())
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in TESTS["jobs"] or sys.argv[2] not in ARCHS:
        sys.exit(__doc__)
    print(job(*sys.argv[1:]), end="")
