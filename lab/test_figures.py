# SPDX-License-Identifier: GPL-2.0-only
"""figures.py: what counts as a sample, what a verdict says, alternatives that still apply."""
import glob
import math
import os
import re
import subprocess

import pytest

import figures
import guest
import report
from conftest import exceptions
from workloads import PICTURE, QUICK, WORKLOADS

KEYS = {key for row in WORKLOADS["e3"].rows for key in row.value.split("/")}
GOOD = "R w=e3 how=own " + " ".join(f"{key}=2" for key in sorted(KEYS)) + "\n"


@pytest.mark.parametrize("verdict, output, is_sample", [
    ("ok", GOOD, True),
    ("hang", GOOD, False),
    ("splat", GOOD, False),
    ("ok", "", False),
    ("ok", GOOD.replace("w_p99_us=2", ""), False),
])
def test_sample(tmp_path, monkeypatch, verdict, output, is_sample):
    """Only a guest that ended well and printed all numbers makes a sample."""
    result = guest.Result(verdict, output, "why", 1.0, "console")
    monkeypatch.setattr(guest, "run", lambda *_, **__: result)
    job = figures.Job("e3", "base", 1, "out", {}, str(tmp_path / "base-1"))
    assert (figures.boot(job) == "ok") == is_sample
    assert bool(figures.kept(job)) == is_sample
    assert bool(figures.measure([job], 1)) != is_sample


@pytest.mark.parametrize("better, base, values, verdict", [
    ("less", [10, 10, 10], [5, 5, 5], "better"),
    ("more", [10, 10, 10], [5, 5, 5], "worse"),
    ("less", [10, 10, 10], [10.4, 10, 9.9], "no worse"),
    ("less", [10, 10, 10], [11, 10, 9.9], "unclear"),
    ("more", [10, 10, 10], [9, 10, 10.1], "unclear"),
    ("less", [10, 10, 10], [5, 10, 20], "says nothing"),
    ("less", [0, 0, 0], [0, 0, 0], "no worse"),
    ("less", [0, 0, 0], [1, 1, 1], "worse"),
    ("less", [10, 10, 10], [5, 5], "too few rounds"),
    ("", [10, 10, 10], [5, 5, 5], ""),
    ("less", [], [5, 5, 5], "no base"),
])
def test_verdict(better, base, values, verdict):
    """The verdict is about the interval, by the rules of docs/figures.md."""
    one = report.fact(base, values, better)
    assert one.verdict == verdict
    assert math.isnan(one.ratio) or one.low <= one.ratio <= one.high


def test_names():
    """The selections name workloads, and the rows of a table differ."""
    assert set(QUICK) | set(PICTURE) <= set(WORKLOADS)
    for work in WORKLOADS.values():
        assert len({row.words for row in work.rows}) == len(work.rows)


@pytest.mark.parametrize("path", sorted(glob.glob("alternatives/*.patch")))
def test_alternative(build, tmp_path, path):
    """Each alternative says what it applies to, and does."""
    if path in exceptions(build):
        pytest.skip(exceptions(build)[path])
    with open(path, encoding="utf-8") as f:
        branch = re.search("^Applies to: (base|series)$", f.read(), re.M).group(1)
    git = ["git", "-c", "safe.directory=*", "-C", f"{build}/linux"]
    env = {**os.environ, "GIT_INDEX_FILE": str(tmp_path / "index")}
    subprocess.run([*git, "read-tree", branch], check=True, env=env)
    subprocess.run([*git, "apply", "--cached", os.path.abspath(path)], check=True, env=env)
