# SPDX-License-Identifier: GPL-2.0-only
"""tree.sh, series.sh and base.sh lose nothing of the user's: on a small tree, in seconds."""
import glob
import os
import shutil
import subprocess

import pytest

def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


class House:
    """A copy of the repository with two fixes and three patches for a kernel of a few files."""

    def __init__(self, path):
        self.path, self.kernel = path / "house", path / "kernel"
        self.linux = self.path / "build/k/linux"
        shutil.copytree("lab", self.path / "lab")
        shutil.copy("base.mk", self.path)
        for folder in (self.path / "patches", self.path / "fixes", self.kernel / "mm"):
            folder.mkdir(parents=True)
        shutil.copy("patches/0000-cover-letter.patch", self.path / "patches")
        for name in ("mm/memory.c", "other", "Makefile"):
            (self.kernel / name).write_text("".join(f"line {i}\n" for i in range(60)))
        self.git("init", "-q", "-b", "main", at=self.kernel)
        self.git("add", "-A", at=self.kernel)
        self.git("commit", "-q", "-m", "base", at=self.kernel)
        self.good("tree")
        self.git("checkout", "-q", "fixes")
        self.commit("mm/memory.c", 5, "mm: fix one")
        self.commit("other", 5, "other: fix two")
        self.git("checkout", "-q", "-B", "series")
        self.commit("mm/memory.c", 20, "mm: patch one")
        (self.linux / "mm/new.c").write_text("line 0\n")
        self.commit("mm/new.c", 0, "mm: patch two")
        self.commit("mm/memory.c", 40, "mm: patch three")
        self.good("series")

    def git(self, *words, at=None):
        """The output of git in the tree, or in AT; raises when it fails."""
        me = ("-c", "user.name=me", "-c", "user.email=me@here")
        return subprocess.run(["git", *me, *words], cwd=at or self.linux, check=True, text=True,
                              capture_output=True).stdout.strip()

    def commit(self, name, line, subject):
        """Put SUBJECT in the place of a LINE of a file, and commit it."""
        replace(self.linux / name, f"line {line}\n", f"{subject}\n")
        self.git("add", name)
        self.git("commit", "-q", "-m", subject)

    def run(self, step, *words, kernel=None):
        """(status, output) of lab/STEP.sh."""
        env = {**os.environ, "KERNEL": str(kernel or self.kernel), "BASE": ""}
        r = subprocess.run([f"lab/{step}.sh", *(words or ["build/k"])], cwd=self.path, text=True,
                           check=False, env=env, start_new_session=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        return r.returncode, r.stdout

    def good(self, step):
        status, output = self.run(step)
        assert status == 0, output
        return output

    def refused(self, why, step, *words, kernel=None):
        status, output = self.run(step, *words, kernel=kernel)
        assert status and why in output, output

    def folders(self):
        return {str(path.relative_to(self.path)): path.read_text()
                for path in self.path.glob("*/**/*")
                if path.is_file() and not path.is_relative_to(self.path / "build")}

    def edit(self, patch, old, new):
        replace(next(self.path.glob(f"{patch}*")), old, new)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_twice_changes_nothing(house):
    (house.path / "fixes/reported").mkdir()
    (house.path / "fixes/reported/0001-not-of-the-series.patch").write_text("kept, not applied\n")
    before = house.folders()
    assert {"mm/new.c", "mm/memory.c.diff", "fixes/0001-mm-fix-one.patch"} < set(before)
    assert "mm/new.c.diff" not in before and "+mm: fix one" not in before["mm/memory.c.diff"]
    assert "Subject: [RFC PATCH 2/3] mm: patch two" in before["patches/0002-mm-patch-two.patch"]
    house.good("series")
    assert house.folders() == before
    tree = house.git("rev-parse", "series^{tree}", "fixes^{tree}")
    shutil.rmtree(house.path / "build")
    house.good("tree")
    assert house.git("rev-parse", "series^{tree}", "fixes^{tree}") == tree
    house.good("series")
    assert house.folders() == before


@pytest.mark.parametrize("patch, line", [("fixes/0001", 5), ("patches/0001", 20)])
def test_conflict_is_resolved_by_hand(house, patch, line):
    before = house.git("log", "--format=%s", "base..series")
    house.edit(patch, f"-line {line}\n", "-line 99\n")
    house.refused(patch, "tree")
    house.refused("git am --continue", "tree")
    house.refused("in progress", "series")
    replace(house.linux / "mm/memory.c", "line 50\n", "by hand\n")
    house.refused("git am --continue", "tree")
    house.git("add", "mm/memory.c")
    house.git("am", "--continue")
    assert "NOTE: some by hand" in house.good("tree")
    assert house.git("log", "-1", "--format=%s", "fixes") == "other: fix two"
    assert "not in fixes/ or patches/" in house.good("tree")
    assert house.git("log", "--format=%s", "base..series") == before
    house.good("series")
    assert "NOTE" not in house.good("tree")


def test_all_that_do_not_apply_are_named(house):
    house.edit("patches/0001", "-line 20\n", "-line 99\n")
    house.edit("patches/0003", "-line 40\n", "-line 99\n")
    house.refused("patches/0001-mm-patch-one.patch does not apply", "tree")
    house.git("am", "--abort")
    house.refused("nor will patches/0003-mm-patch-three.patch", "tree")


def test_fewer_commits_never_replace_the_patches(house):
    before = house.folders()
    house.git("reset", "-q", "--hard", "HEAD~1")
    house.refused("patches/ has 3 patches", "series")
    assert house.folders() == before


def test_work_survives(house):
    """An edit and a commit that are nowhere else; make clean is refused while there is one."""
    assert house.run("tree", "build/k", "--saved") == (0, "")
    edit = house.linux / "other"
    edit.write_text("mine\n")
    house.refused("not in patches/", "tree", "build/k", "--saved")
    house.git("commit", "-q", "-a", "-m", "mine")
    house.refused("not in patches/", "tree", "build/k", "--saved")
    edit.write_text("not committed\n")
    for step in ("tree", "tree"):
        assert "uncommitted changes" in house.good(step)
    house.refused("uncommitted changes", "series")
    house.edit("patches/0001", "mm: patch one", "mm: patch 1")
    house.refused("have changed since they were last equal", "tree")
    assert house.git("log", "-1", "--format=%s") == "mine"
    assert edit.read_text() == "not committed\n"


def test_killed_on_the_way(house):
    """make tree is killed behind the second patch: the next one begins again, but not while
    there is work of the user's."""
    tree = house.git("rev-parse", "series^{tree}")
    house.edit("patches/0001", "Subject:", "X-Other: 1\nSubject:")
    hook = house.linux / ".git/hooks/post-applypatch"
    hook.write_text("#!/bin/sh\n! git log -1 --format=%s | grep -q 'patch two' || kill -9 0\n")
    hook.chmod(0o755)
    assert house.run("tree")[0]
    assert house.git("log", "-1", "--format=%s") == "mm: patch two"
    hook.unlink()
    house.commit("other", 30, "mine")
    house.refused("you made commits", "tree")
    house.git("reset", "-q", "--hard", "HEAD~1")
    house.good("tree")
    assert house.git("rev-parse", "series^{tree}") == tree


def test_git_am_three_way(house):
    """The index lines name blobs that the user of the base has."""
    other = f"{house.path}-3"
    house.git("clone", "-q", house.kernel, other, at=house.path)
    for folder in ("fixes", "patches"):
        house.git("am", "-3", "-q", *sorted(house.path.glob(f"{folder}/000[1-9]*")), at=other)
    assert house.git("rev-parse", "HEAD:", at=other) == house.git("rev-parse", "series:")


def test_port(house):
    """A version with a folder in ports/ has its own mails, and none of its list; make series
    writes there, and only what differs."""
    for line, text in ((0, "VERSION = 6"), (1, "PATCHLEVEL = 12")):
        replace(house.kernel / "Makefile", f"line {line}\n", f"{text}\n")
    replace(house.kernel / "mm/memory.c", "line 20\n", "line twenty\n")
    house.git("commit", "-q", "-a", "-m", "another version", at=house.kernel)
    port = house.path / "ports/6.12"
    port.mkdir(parents=True)
    (port / "dropped").write_text("fixes/0002-other-fix-two.patch its reason\n")
    before = house.folders()
    shutil.rmtree(house.path / "build")
    house.refused("patches/0001-mm-patch-one.patch does not apply", "tree")
    replace(house.linux / "mm/memory.c", "line twenty\n", "mm: patch one\n")
    house.git("add", "mm/memory.c")
    house.git("am", "--continue")
    house.good("tree")
    house.good("series")
    new = house.folders()
    mail = "ports/6.12/patches/0001-mm-patch-one.patch"
    assert "[PATCH 6.12] mm: patch one" in new.pop(mail)
    assert new == before
    tree = house.git("rev-parse", "series^{tree}")
    shutil.rmtree(house.path / "build")
    assert "1 fixes and 3 patches applied" in house.good("tree")
    assert house.git("rev-parse", "series^{tree}") == tree
    assert house.run("tree", "build/k", "--mails")[1].split() == [
        "fixes/0001-mm-fix-one.patch", mail, *(
            f"patches/000{n}-mm-patch-{name}.patch" for n, name in ((2, "two"), (3, "three")))]
    house.good("series")
    assert house.folders() == {**before, mail: house.folders()[mail]}
    house.edit("ports/6.12/dropped", "its", "a better")
    house.good("tree")
    house.git("reset", "-q", "--hard", "HEAD~1")
    house.refused("name it in ports/6.12/dropped", "series")


@pytest.mark.parametrize("base, want", [
    ("", "build/7.3"), ("7.3", "build/7.3"), ("6.12", "build/6.12"), ("6.18", "build/6.18"),
    ("7", "unknown base '7'; known: 7.3 6.12"), ("6.1", "unknown base '6.1'")])
def test_base(base, want):
    """BASE= takes the pin of its version, and no other."""
    r = subprocess.run(["lab/tree.sh", "--name"], text=True, check=False, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env={**os.environ, "KERNEL": "", "BASE": base})
    assert want in r.stdout


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
    shutil.rmtree(house.path / "build")
    status, output = house.run("tree", kernel=other)
    assert status == 0 and "3 patches applied" in output, output
    assert house.git("show", "-s", "--format=%s", "series") == "mm: patch three"


def test_what_is_wrong_with_kernel_is_named(house):
    house.refused("no mm/memory.c", "tree", "--name", kernel="/nowhere")
    shutil.rmtree(house.kernel / ".git")
    house.git("init", "-q", at=house.kernel)
    house.refused("no commit yet", "tree", "--name")


def test_tarball(house):
    """The base's source is taken by its sha256 whatever its name; a damaged one is found."""
    by_hand, tarball = house.path / "base/by-hand", house.path / "base/1.tar.xz"
    by_hand.parent.mkdir()
    by_hand.write_text("source")
    (house.path / "base.mk").write_text(
        "BASE_PACKAGE = no-such-package\nBASE_VERSION = 1\nBASE_SUITE = trixie\nBASE_SHA256 = "
        "41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d\n")
    assert house.run("base", house.path) == (0, "")
    assert tarball.read_text() == "source"
    by_hand.unlink()
    tarball.unlink()
    tarball.write_text("damaged")
    status, output = house.run("base", house.path)
    assert status and "is damaged" in output and "What you can do" in output, output


def test_unknown_architecture():
    r = subprocess.run(["make", "test", "ARCH=x86_65"], text=True, check=False, capture_output=True)
    assert r.returncode and "unknown architecture 'x86_65'; known: x86_64" in r.stderr


def test_shellcheck():
    scripts = sorted(glob.glob("lab/*.sh") + glob.glob("docs/model/*.sh") + [".ci/run"])
    r = subprocess.run(["shellcheck", "-x", *scripts], text=True, check=False, capture_output=True)
    assert not r.returncode, r.stdout
