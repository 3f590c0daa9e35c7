#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Join what the jobs of `make test ENGINE=slurm` have left into the results of one run.

    join.py BUILD PLACE

PLACE: see slurm.sh. A test that several jobs ran counts once: as failed if it failed anywhere,
else as passed if it passed anywhere. A job that left no result is a failure by its name, and so
is one that did not end well though its tests did. Leaves BUILD/results/matrix.txt.
"""
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from conftest import matrix, text_of

WORST_FIRST = ("failed", "passed", "skipped")
FACTS = {"count": int, "skipped": int, "seconds": float}


def tests(folder):
    """The reports of pytest's junit.xml, as far as matrix() needs them."""
    for case in ElementTree.parse(f"{folder}/results/junit.xml").iter("testcase"):
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else \
            "skipped" if "skipped" in tags else "passed"
        facts = {one.get("name"): one.get("value") for one in case.iter("property")}
        facts = [(key, kind(facts[key])) for key, kind in FACTS.items() if key in facts]
        yield SimpleNamespace(
            nodeid=f"{case.get('classname')}::{case.get('name')}", folder=folder,
            outcome=outcome, passed=outcome == "passed", duration=float(case.get("time")),
            user_properties=facts)


def main():
    """Join, print, and exit with 1 if anything failed."""
    build, place = sys.argv[1:]
    jobs = text_of(f"{place}/jobs").split()
    joined, wrong = {}, []
    for job in jobs:
        try:
            status = text_of(f"{place}/{job}/status").strip()
            found = list(tests(f"{place}/{job}"))
        except (FileNotFoundError, ElementTree.ParseError):
            wrong.append(f"{job}: no result; log: {place}/{job}.log")
            continue
        if status != "0" and not any(one.outcome == "failed" for one in found):
            wrong.append(f"{job}: ended with {status}; log: {place}/{job}.log")
        for one in found:
            joined[one.nodeid] = min(joined.get(one.nodeid, one), one,
                                     key=lambda one: WORST_FIRST.index(one.outcome))
    wrong += [f"{one.nodeid}; log: {one.folder}/logs/test.log"
              for one in joined.values() if one.outcome == "failed"]
    lines = matrix(list(joined.values()), jobs)
    Path(build, "results/matrix.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    for line in (*(f"FAILED  {line}" for line in wrong), "", *lines, ""):
        print(f"@ {line}")
    passed, skipped = (sum(one.outcome == word for one in joined.values())
                       for word in ("passed", "skipped"))
    print(f"{passed} passed, {len(wrong)} failed, {skipped} skipped")
    sys.exit(1 if wrong or not passed else 0)


if __name__ == "__main__":
    main()
