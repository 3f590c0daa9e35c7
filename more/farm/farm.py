#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Write a job file for LAVA, or check all of them against LAVA's own schema.

    farm.py TEST ARCH URL [DEVICE]    for QEMU, or for a DEVICE type of the farm
    farm.py --check                   skipped without Debian's lava-common

TEST: of tests.yaml. URL: where the farm finds build/7.3/out.
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
    print(f"@ skipped farm: {error}: apt-get install lava-common", "0 passed, 0 failed, 1 skipped",
          sep="\n")
    sys.exit()

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
TESTS = yaml.safe_load((HERE / "tests.yaml").read_text("utf-8"))["jobs"]
ARCHS = {row.split()[0]: row.split() for row in
         (TOP / "lab/config/archs").read_text("utf-8").splitlines() if row[0] != "#"}
# ok 1 NAME, not ok 1 NAME, ok 1 NAME # SKIP WHY: the result is what "fixupdict" names.
PATTERN = (r"(?=(ok [^#\r\n]*)?(?P<result># SKIP|not ok|ok))"
           r"(not )?ok \d+ (?P<test_case_id>[^\r\n#]*[^\r\n# ])[^\r\n]*\r?\n")
LINES = ("ok 1 B1 waits # V V, maj 1\r\nnot ok 2 a.b\r\nok 3 a # SKIP not ok here\r\n"
         "ok 4 not ok\r\n# ok\r\n")
FOUND = [("ok", "B1 waits"), ("not ok", "a.b"), ("# SKIP", "a"), ("ok", "not ok")]
# What LAVA must refuse: a text of a good job, and what becomes of it.
MISTAKES = {"job_name": "job_nmae", "prompts": "promtps", "minutes: 60": "minutes: 5"}


def job(test, arch, url, device=""):
    """The text of a job file."""
    words = ARCHS[arch]
    template = (HERE / ("device.yaml" if device else "qemu.yaml")).read_text("utf-8")
    return string.Template(template).substitute(
        TESTS[test]["params"], test=test, arch=arch, url=url, device=device, image=words[3],
        console=words[4], emulator=words[7].removeprefix("qemu-system-"),
        machine=" ".join(words[8:]), pattern=PATTERN)


def accepted(text):
    """Whether LAVA takes a job file."""
    try:
        validate(yaml.safe_load(text))
    except Invalid as why:
        print(why)
        return False
    return True


def check():
    """Print a line a check; returns whether all went well."""
    jobs = {f"{test} on {arch} {device or 'in QEMU'}": job(test, arch, "https://farm/out", device)
            for test in TESTS for arch in ARCHS for device in ("", "board")}
    good = {name: accepted(text) for name, text in jobs.items()}
    text = next(iter(jobs.values()))
    for right, wrong in MISTAKES.items():
        good[f"{wrong} is refused"] = right in text and not accepted(text.replace(right, wrong))
    good["results are found"] = FOUND == [match.group("result", "test_case_id") for match in
                                          re.finditer(PATTERN, LINES)]
    listed = ", ".join(ARCHS)
    for path in (".gitlab-ci.yml", ".github/workflows/test.yml"):
        good[f"{path} has all architectures"] = f"[{listed}]" in (TOP / path).read_text("utf-8")
    for name, well in good.items():
        print(f"@ {'ok     ' if well else 'FAILED '} {name}")
    failed = list(good.values()).count(False)
    print(f"{len(good) - failed} passed, {failed} failed, 0 skipped")
    return not failed


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(not check())
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in TESTS or sys.argv[2] not in ARCHS:
        sys.exit(__doc__)
    TEST, ARCH, URL, *DEVICE = sys.argv[1:]
    print(job(TEST, ARCH, URL, *DEVICE), end="")
