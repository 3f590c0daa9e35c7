#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Join what the jobs of `make test ENGINE=slurm` have left into the results of one run.

    join.py BUILD PLACE

PLACE: see slurm.sh. A test that several jobs ran counts once: as failed if it failed anywhere,
as passed if it passed anywhere else. A job that left no result is a failure by its name, and so
is one that did not end well though all its tests did. Leaves BUILD/results/matrix.txt.
"""
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from conftest import matrix, text_of

WORST_FIRST = ("failed", "passed", "skipped")
NUMBERS = {"count": int, "skipped": int, "seconds": float}


def tests(path):
    """{name: its report, as far as matrix() needs it} of pytest's junit.xml."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        tags = {"failed" if child.tag == "error" else child.tag.replace("failure", "failed")
                for child in case}
        outcome = next((word for word in ("failed", "skipped") if word in tags), "passed")
        facts = {one.get("name"): one.get("value") for one in case.iter("property")}
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name] = SimpleNamespace(
            nodeid=name, outcome=outcome, passed=outcome == "passed",
            duration=float(case.get("time")),
            user_properties=[(key, NUMBERS[key](facts[key])) for key in NUMBERS if key in facts])
    return found


def main(build, place):
    """Join, print, and exit with 1 if anything failed."""
    jobs = text_of(f"{place}/jobs").split()
    joined, lost = {}, []
    for job in jobs:
        try:
            status = text_of(f"{place}/{job}/status").strip()
            found = tests(f"{place}/{job}/results/junit.xml")
        except (FileNotFoundError, ElementTree.ParseError) as error:
            lost.append(f"{job}: no result ({error}); log: {place}/{job}.log")
            continue
        if status != "0" and not any(one.outcome == "failed" for one in found.values()):
            lost.append(f"{job}: ended with {status}; log: {place}/{job}.log")
        for name, one in found.items():
            if one.outcome == "failed" and (name not in joined or joined[name].outcome != "failed"):
                print(f"@ FAILED  {name} (log: {place}/{job}/logs/test.log)")
            if name not in joined or WORST_FIRST.index(one.outcome) < \
                    WORST_FIRST.index(joined[name].outcome):
                joined[name] = one
    for line in lost:
        print(f"@ FAILED  {line}")
    lines = matrix(list(joined.values()), jobs)
    if lines:
        Path(build, "results").mkdir(exist_ok=True)
        Path(build, "results/matrix.txt").write_text("\n".join(lines) + "\n", "utf-8")
        print(*[f"@ {line}" for line in ("", *lines, "")], sep="\n")
    count = {word: sum(one.outcome == word for one in joined.values()) for word in WORST_FIRST}
    count["failed"] += len(lost)
    print(", ".join(f"{count[word]} {word}" for word in ("passed", "failed", "skipped")))
    sys.exit(1 if count["failed"] or not count["passed"] else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
