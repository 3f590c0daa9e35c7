# SPDX-License-Identifier: GPL-2.0-only
"""tree.sh, series.sh and base.sh lose nothing of the user's: on a small tree, in seconds."""
import glob
import os
import shutil
import subprocess

import pytest

LETTER = """From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Me <me@here>
Date: Fri, 20 Nov 2026 19:45:04 +0000
Subject: [RFC PATCH 0/1] A series

Text.

Me (1):
  one

"""


class House:
    """A copy of the repository with two fixes and three patches for a kernel of two files."""

    def __init__(self, path):
        self.path, self.kernel = str(path / "house"), str(path / "kernel")
        self.linux = f"{self.path}/build/k/linux"
        shutil.copytree("lab", f"{self.path}/lab")
        shutil.copy("base.mk", self.path)
        for folder in ("patches", "fixes"):
            os.makedirs(f"{self.path}/{folder}")
        self.write(f"{self.path}/patches/0000-cover-letter.patch", LETTER)
        os.makedirs(f"{self.kernel}/mm")
        for name in ("mm/memory.c", "other", "Makefile"):
            self.write(f"{self.kernel}/{name}", "".join(f"line {i}\n" for i in range(60)))
        self.git("init", "-q", "-b", "main", at=self.kernel)
        self.git("add", "-A", at=self.kernel)
        self.git("commit", "-q", "-m", "base", at=self.kernel)
        self.good("tree")
        self.git("checkout", "-q", "fixes")
        self.commit("mm/memory.c", 5, "mm: fix one")
        self.commit("other", 5, "other: fix two")
        self.git("checkout", "-q", "-B", "series")
        self.commit("mm/memory.c", 20, "mm: patch one")
        self.commit("mm/new.c", 0, "mm: patch two")
        self.commit("mm/memory.c", 40, "mm: patch three")
        self.good("series")

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def git(self, *words, at=None):
        """The output of git in the tree, or in AT; raises when it fails."""
        return subprocess.run(["git", "-c", "user.name=me", "-c", "user.email=me@here", *words],
                              cwd=at or self.linux, check=True, text=True, capture_output=True).stdout.strip()

    def commit(self, name, line, subject):
        """Change a LINE of a file, or make the file, and commit it."""
        lines = [""]
        if os.path.exists(f"{self.linux}/{name}"):
            with open(f"{self.linux}/{name}", encoding="utf-8") as f:
                lines = f.read().split("\n")
        lines[line] = subject
        self.write(f"{self.linux}/{name}", "\n".join(lines) + ("" if lines[-1] == "" else "\n"))
        self.git("add", name)
        self.git("commit", "-q", "-m", subject)

    def run(self, step, *words, kernel=None):
        """(status, output) of lab/STEP.sh."""
        r = subprocess.run([f"lab/{step}.sh", *(words or ["build/k"])], cwd=self.path, text=True, check=False,
                           env={**os.environ, "KERNEL": kernel or self.kernel}, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, start_new_session=True)
        return r.returncode, r.stdout

    def good(self, step):
        status, output = self.run(step)
        assert status == 0, output
        return output

    def refused(self, step, why):
        status, output = self.run(step)
        assert status and why in output, output

    def folders(self):
        return {os.path.relpath(p, self.path): open(p, encoding="utf-8").read()
                for p in glob.glob(f"{self.path}/*/**", recursive=True)
                if os.path.isfile(p) and "/build/" not in p and "/lab/" not in p}

    def edit(self, patch, old, new):
        path = glob.glob(f"{self.path}/{patch}*")[0]
        with open(path, encoding="utf-8") as f:
            text = f.read()
        assert old in text
        self.write(path, text.replace(old, new))


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_twice_changes_nothing(house):
    before = house.folders()
    assert {"mm/new.c", "mm/memory.c.diff", "fixes/0001-mm-fix-one.patch"} < set(before)
    assert "mm/new.c.diff" not in before and "+mm: fix one" not in before["mm/memory.c.diff"]
    assert "Subject: [RFC PATCH 2/3] mm: patch two" in before["patches/0002-mm-patch-two.patch"]
    house.good("series")
    assert house.folders() == before
    tree = house.git("rev-parse", "series^{tree}", "fixes^{tree}")
    shutil.rmtree(f"{house.path}/build")
    house.good("tree")
    assert house.git("rev-parse", "series^{tree}", "fixes^{tree}") == tree
    house.good("series")
    assert house.folders() == before


@pytest.mark.parametrize("folder", ("fixes", "patches"))
def test_conflict_is_resolved_by_hand(house, folder):
    first = "mm: fix one" if folder == "fixes" else "mm: patch one"
    where = {"fixes": "-line 5\n", "patches": "-line 20\n"}[folder]
    house.edit(f"{folder}/0001", where, "-line 99\n")
    house.refused("tree", f"{folder}/0001")
    house.refused("tree", "git am --continue")
    house.refused("series", "in progress")
    house.write(f"{house.linux}/mm/memory.c", first + "\n" + house.git("show", "HEAD:mm/memory.c") + "\n")
    house.refused("tree", "git am --continue")
    house.git("add", "mm/memory.c")
    house.git("am", "--continue")
    assert "NOTE: some by hand" in house.good("tree")
    log = house.git("log", "--format=%s", "base..series").split("\n")
    assert len(log) == 5 and first in log
    assert "not in fixes/ or patches/" in house.good("tree")
    assert house.git("log", "--format=%s", "base..series").split("\n") == log
    house.good("series")
    assert "NOTE" not in house.good("tree")


def test_all_that_do_not_apply_are_named(house):
    house.edit("patches/0001", "-line 20\n", "-line 99\n")
    house.edit("patches/0003", "-line 40\n", "-line 99\n")
    house.refused("tree", "patches/0001-mm-patch-one.patch does not apply")
    house.git("am", "--abort")
    house.refused("tree", "nor will patches/0003-mm-patch-three.patch")


def test_fewer_commits_never_replace_the_patches(house):
    before = house.folders()
    house.git("reset", "-q", "--hard", "HEAD~1")
    house.refused("series", "patches/ has 3 patches")
    assert house.folders() == before


def test_clean_is_refused(house):
    """While the tree has an edit or a commit that is nowhere else."""
    assert house.run("tree", "build/k", "--saved") == (0, "")
    house.write(f"{house.linux}/other", "not committed\n")
    assert house.run("tree", "build/k", "--saved")[0]
    house.git("commit", "-q", "-a", "-m", "mine")
    assert house.run("tree", "build/k", "--saved")[0]


def test_work_survives(house):
    house.commit("other", 30, "mine")
    house.write(f"{house.linux}/other", "not committed\n")
    for step in ("tree", "tree"):
        assert "uncommitted changes" in house.good(step)
    house.refused("series", "uncommitted changes")
    house.edit("patches/0001", "mm: patch one", "mm: patch 1")
    house.refused("tree", "have changed since they were last equal")
    assert house.run("tree", "build/k", "--saved")[0]
    assert house.git("log", "-1", "--format=%s") == "mine"
    with open(f"{house.linux}/other", encoding="utf-8") as f:
        assert f.read() == "not committed\n"


def test_killed_on_the_way(house):
    """git am is killed behind the second patch: the next make tree begins again."""
    tree = house.git("rev-parse", "series^{tree}")
    house.edit("patches/0001", "Subject:", "X-Other: 1\nSubject:")
    house.write(f"{house.linux}/.git/hooks/post-applypatch",
                "#!/bin/sh\ngit log -1 --format=%s | grep -q 'patch two' && kill -9 0; exit 0\n")
    os.chmod(f"{house.linux}/.git/hooks/post-applypatch", 0o755)
    assert house.run("tree")[0]
    assert house.git("log", "-1", "--format=%s") == "mm: patch two"
    os.unlink(f"{house.linux}/.git/hooks/post-applypatch")
    house.good("tree")
    assert house.git("rev-parse", "series^{tree}") == tree


def test_git_am_three_way(house):
    """The index lines name blobs that the user of the base has."""
    other = f"{house.path}-3"
    house.git("clone", "-q", house.kernel, other, at=house.path)
    for folder in ("fixes", "patches"):
        house.git("am", "-3", "-q", *sorted(glob.glob(f"{house.path}/{folder}/000[1-9]*")), at=other)
    assert house.git("rev-parse", "HEAD^{tree}", at=other) == house.git("rev-parse", "series^{tree}")


@pytest.mark.parametrize("kind", ("shared", "worktree", "tarball"))
def test_kinds_of_kernel(house, kind):
    """KERNEL= may be a clone that borrows objects, a worktree, an unpacked tarball."""
    other = f"{house.path}-{kind}"
    if kind == "worktree":
        house.git("worktree", "add", "-q", "--detach", other, at=house.kernel)
    else:
        house.git("clone", "-q", "--shared", house.kernel, other, at=house.path)
    if kind == "tarball":
        shutil.rmtree(f"{other}/.git")
    shutil.rmtree(f"{house.path}/build")
    status, output = house.run("tree", kernel=other)
    assert status == 0 and "3 patches applied" in output, output
    assert house.git("show", "-s", "--format=%s", "series") == "mm: patch three"


def test_what_is_wrong_with_kernel_is_named(house):
    for path, why in (("/nowhere", "no mm/memory.c"), (f"{house.path}-new", "no commit yet")):
        if "new" in path:
            shutil.copytree(house.kernel, path, ignore=shutil.ignore_patterns(".git"))
            house.git("init", "-q", path, at=house.path)
        status, output = house.run("tree", "--name", kernel=path)
        assert status and why in output, output


def test_tarball(house, tmp_path):
    """The base's source is taken by its sha256 whatever its name; a damaged one is found."""
    os.makedirs(tmp_path / "base")
    (tmp_path / "base" / "by-hand").write_text("source")
    tarball = tmp_path / "base" / "1.tar.xz"
    house.write(f"{house.path}/base.mk", "BASE_PACKAGE = no-such-package\nBASE_VERSION = 1\nBASE_SHA256 = "
                "41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d\n")
    assert house.run("base", str(tmp_path)) == (0, "")
    assert tarball.read_text() == "source"
    tarball.unlink()
    (tmp_path / "base" / "by-hand").unlink()
    tarball.write_text("damaged")
    status, output = house.run("base", str(tmp_path))
    assert status and "is damaged" in output and "What you can do" in output, output


def test_unknown_architecture():
    r = subprocess.run(["make", "test", "ARCH=x86_65"], text=True, check=False, capture_output=True)
    assert r.returncode and "unknown architecture 'x86_65'; known: x86_64" in r.stderr


def test_shellcheck():
    scripts = sorted(glob.glob("lab/*.sh") + glob.glob("docs/model/*.sh") + [".ci/run"])
    r = subprocess.run(["shellcheck", "-x", *scripts], text=True, check=False, capture_output=True)
    assert not r.returncode, r.stdout
