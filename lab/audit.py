#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Does docs/retry.md know all of a kernel tree that concerns fault retries?

    audit.py TREE

Fails when TREE, the source of a base kernel, has

  - a function that names VM_FAULT_RETRY, FAULT_FLAG_VMA_LOCK or one of the helpers
    which return VM_FAULT_RETRY or drop the lock for it, and has no row in the table;
  - a ->fault of vm_operations_struct with ->map_pages, a ->huge_fault or a
    ->pfn_mkwrite without a row: these are called under the VMA lock;

or when the table has a row for a function that is not in TREE any more. So a
rebase cannot bring in a producer of VM_FAULT_RETRY that nobody has looked at.
"""
import collections
import os
import re
import subprocess
import sys
from pathlib import Path

# Whoever names one of these has a part in a retry.
WORD = re.compile(r"\b(?:VM_FAULT_RETRY|FAULT_FLAG_VMA_LOCK|(?:__)?folio_lock_or_retry"
                  r"|handle_userfault|vmf_can_call_fault|(?:__)?vmf_anon_prepare"
                  r"|release_fault_lock|maybe_unlock_mmap_for_io|filemap_fault"
                  r"|ttm_bo_vm_reserve|lock_vma_under_rcu)\b")
OPS = ("map_pages", "huge_fault", "pfn_mkwrite")
# Where nothing of the kernel itself is.
SKIP = ("Documentation/", "tools/", "scripts/")

NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
OPERATIONS = re.compile(r"vm_operations_struct\s+\w+(?:\s+\w+)?\s*=\s*\{(.*?)\n?\}\s*;", re.S)
# The name of what begins at the left margin: a function, an enum, a macro.
HEAD = re.compile(r"^(?:#\s*define\s+(?P<macro>\w+)|(?:typedef\s+)?enum\s+(?P<enum>\w+)\s*\{"
                  r"|(?:[A-Za-z_][\w \t*]*?[\s*])?(?P<func>\w+)\s*\((?!.*;\s*$))")
KEYWORDS = {"if", "for", "while", "switch", "return", "else", "do", "sizeof", "defined"}


def text_of(path):
    return path.read_text("utf-8", "replace")


def strip(text):
    """C without comments and strings, lines kept."""
    return NOISE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def functions(text):
    """Yield (name, line) for each line of C that belongs to something with a name."""
    name = macro = ""
    for line in text.split("\n"):
        m = None if macro else HEAD.match(line)
        if m and m["macro"]:
            macro = m["macro"]
        elif m and m.lastgroup != "macro":
            found = m["enum"] or m["func"]
            if found not in KEYWORDS and not found.startswith("__attribute"):
                name = found
        yield macro or name, line
        if not line.endswith("\\"):
            macro = ""


def candidates(tree):
    """The files that name any of it, relative to TREE."""
    pattern = WORD.pattern.replace("(?:", "(") + rf"|\.({'|'.join(OPS)})\b"
    out = subprocess.run(["grep", "-rlE", "--include=*.[ch]", pattern, "."], cwd=tree,
                         check=True, capture_output=True, text=True).stdout
    return sorted(f[2:] for f in out.split() if not f[2:].startswith(SKIP))


def concerned(tree):
    """({(file, function)} that name a word, {handler: where} of vm_operations)."""
    users, handlers = set(), collections.defaultdict(set)
    for file in candidates(tree):
        text = strip(text_of(Path(tree, file)))
        for name, line in functions(text):
            if WORD.search(line) and not re.match(r"\s*\.\w+\s*=", line) and name:
                # A prototype belongs to nobody.
                if not re.match(r"^[A-Za-z_][^={}]*\([^{}]*\)?\s*;?\s*$", line) or \
                        line.startswith(("\t", " ")) or "{" in line:
                    users.add((file, name))
        for body in OPERATIONS.findall(text):
            ops = dict(re.findall(r"\.(\w+)\s*=\s*&?(\w+)", body))
            for op in ("huge_fault", "pfn_mkwrite"):
                if op in ops:
                    handlers[ops[op]].add(file)
            if "map_pages" in ops and "fault" in ops:
                handlers[ops["fault"]].add(file)
    return users, handlers


TABLE = "docs/retry.md"
# A row of it: the file and the function come first.
ROW = re.compile(r"^\| `?(\w[\w.-]*/[\w/.-]+)`? *\| `?(\w+)`? *\|", re.M)


def table():
    """[(file, function)] of the rows of TABLE."""
    return ROW.findall(text_of(Path(TABLE)))


def check(tree):
    """A list of what is wrong, one line each."""
    rows = collections.Counter(table())
    names = {function for _, function in rows}
    users, handlers = concerned(tree)
    wrong = [f"{f}:{n}: twice in the table" for (f, n), count in rows.items() if count > 1]
    wrong += [f"{f}:{n}: takes part in fault retries, but has no row in {TABLE}"
              for f, n in sorted(users - rows.keys())]
    wrong += [f"{h} ({', '.join(sorted(f))}): called under the VMA lock, but has no row in {TABLE}"
              for h, f in sorted(handlers.items()) if h not in names]
    for file, name in sorted(rows):
        path = Path(tree, file)
        if not path.exists() or not re.search(rf"\b{re.escape(name)}\b", text_of(path)):
            wrong.append(f"{file}:{name}: has a row in {TABLE}, but is gone")
    return wrong


def main():
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        sys.exit(__doc__)
    wrong = check(sys.argv[1])
    print("\n".join(wrong) if wrong else "every part of a fault retry is in the table")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
