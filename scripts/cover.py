#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What is our own text in a cover letter that git format-patch made.

    cover.py description FILE    subject, blank line, text: for git's
                                 branch.<name>.description
    cover.py date FILE           its Date: header
    cover.py from FILE           its From: header, "Name <address>"

git format-patch appends a shortlog and a diffstat to the text; they begin with
the line "Author (n):".
"""
import email
import email.header
import email.policy
import re
import sys


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("description", "date", "from"):
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as f:
        msg = email.message_from_string(f.read().split("\n", 1)[1],
                                        policy=email.policy.default)
    if sys.argv[1] != "description":
        print(msg[sys.argv[1]])
        return
    subject = re.sub(r"^\[[^]]*\] *", "", " ".join(str(msg["subject"]).split()))
    body = msg.get_payload()
    end = re.search(r"^[^\n]+ \(\d+\):\n(?:  [^\n]+\n)+\n", body, re.M)
    if not end:
        sys.exit(f"{sys.argv[2]}: no shortlog found after the text")
    print(subject + "\n\n" + body[:end.start()].strip("\n"))


if __name__ == "__main__":
    main()
