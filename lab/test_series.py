# SPDX-License-Identifier: GPL-2.0-only
"""The patches as patches, what the kernel's own checkers say of them, the audit and the models."""
import collections
import functools
import glob
import os
import re
import shutil
from pathlib import Path

import pytest

import audit
import guest
from conftest import assert_none, exceptions, kernel, run, text_of

LETTER = "patches/0000-cover-letter.patch"
# Fixes of base's bugs that have nothing to do with the series.
REPORTED = sorted(glob.glob("fixes/reported/*.patch"))
# Drivers that no guest has are compiled for one architecture.
DRIVERS_ARCH = "arm64"
DRIVERS = ["drivers/gpu/drm/panthor/panthor_gem.c"]


def pytest_generate_tests(metafunc):
    if "arch" in metafunc.fixturenames:
        metafunc.parametrize("arch", metafunc.config.getoption("--arch").split())
    if "patch" in metafunc.fixturenames:
        metafunc.parametrize("patch", [*mails(metafunc.config.getoption("--build")), *REPORTED])


def mails(build):
    """The fixes and patches of this tree."""
    return run("lab/tree.sh", build, "--mails").split()


@pytest.fixture(scope="session", name="pinned")
def fixture_pinned(build):
    """Skip unless the base is a pinned one: a tree of the user's has other lists."""
    pins = "".join(map(text_of, ["base.mk", *glob.glob("ports/*/base.mk")]))
    if f"BASE_VERSION = {text_of(f'{build}/linux/.git/vfr-base')}" not in pins:
        pytest.skip("another base than the one of base.mk")


@pytest.fixture(scope="session", name="touched")
def fixture_touched(build):
    """The files that the fixes and the series change or add."""
    return run("git", "-C", f"{build}/linux", "diff", "--name-only", "base..series").split()


# ---- the patches ----

def test_git_am(build, tmp_path):
    """All apply with git am to the base, and give the tree that was built."""
    git = ("git", "-C", str(tmp_path), "-c", "user.name=test", "-c", "user.email=test@localhost")
    run("git", "clone", "-q", "--shared", "--sparse", "--branch", "base", f"{build}/linux",
        str(tmp_path))
    run(*git, "am", "-q", *map(os.path.abspath, mails(build)))
    assert run(*git, "rev-parse", "HEAD^{tree}") == \
        run("git", "-C", f"{build}/linux", "rev-parse", "series^{tree}")


@pytest.mark.parametrize("path", REPORTED)
def test_reported_applies(build, tmp_path, path):
    """To base, alone."""
    if any(path.startswith("ports/") for path in mails(build)):
        pytest.skip("it is for the newest kernel")
    git = ("git", "-C", f"{build}/linux")
    env = {**os.environ, "GIT_INDEX_FILE": str(tmp_path / "index")}
    run(*git, "read-tree", "base", env=env)
    run(*git, "apply", "--cached", "--check", os.path.abspath(path), env=env)


@pytest.mark.usefixtures("pinned")
def test_regenerated(build, tmp_path):
    """fixes/, patches/ and the view are what `make series` would write."""
    run("lab/series.sh", build, str(tmp_path))
    top = sorted(os.listdir(tmp_path))
    if top == ["ports"]:
        top = [str(path.relative_to(tmp_path)) for path in tmp_path.glob("ports/*/*")]
    else:
        assert {"fixes", "patches", "mm"} < set(top)
    assert top
    assert_none([line for name in top for line in
                 run("diff", "-rq", "-x", "reported", str(tmp_path / name), name, fails=True).splitlines()])


def test_checkpatch(build, patch):
    said = run("perl", "scripts/checkpatch.pl", "--strict", "--codespell", "--show-types",
               os.path.abspath(patch), cwd=f"{build}/linux", fails=True)
    assert "lines checked" in said
    # The commits of Fixes: lines are not in our tree, which has no history.
    known = {"MISSING_SIGN_OFF", "UNKNOWN_COMMIT_ID", *exceptions(build)}
    assert_none([line for line in said.splitlines() if re.match("ERROR|WARNING|CHECK", line)
                 and line.split(":")[1] not in known])


def test_trailers(patch):
    text = text_of(patch).split("\n---\n", maxsplit=1)[0]
    given = re.findall("^(?:Signed-off|Acked|Reviewed|Tested)-by:.*", text, re.M)
    assert not given, "nobody gave it"
    assert re.search("^Assisted-by: LLM", text, re.M)
    assert "patches/" in patch or re.search("^Fixes: ", text, re.M)


def test_cover_letter():
    """It is short, and no template."""
    text = re.split(r"^\S.* \(\d+\):$", text_of(LETTER), maxsplit=1, flags=re.M)[0]
    assert "*** " not in text and "BLURB HERE" not in text, "a template"
    assert "Linux 7.3" in text, "names no base"
    lines = text.partition("\n\n")[2].strip().splitlines()
    assert len(lines) <= 100
    assert_none([line for line in lines if len(line) > 72 and "https://" not in line])


@pytest.mark.usefixtures("pinned")
def test_recipients(build):
    """The letter goes to all lists that get_maintainer.pl names, and to 20 people at most."""
    patches = [os.path.abspath(path) for path in mails(build) if path.startswith("patches/")]
    if any(path.startswith("ports/") for path in mails(build)):
        pytest.skip("a port has no letter")
    said = run("perl", "scripts/get_maintainer.pl", "--no-git", "--no-git-fallback",
               "--norolestats", *patches, cwd=f"{build}/linux")
    named = re.findall("^Cc: (.*)$", text_of(LETTER), re.M)
    assert {line for line in said.splitlines() if "<" not in line} <= set(named)
    assert len([line for line in named if "<" in line]) <= 20


# What "mm: Unconditional per-VMA locks" adds, as far as a patch can stumble over it.
NEXT_FUNCTION = """
struct vm_area_struct *vma_start_read_unlocked(struct mm_struct *mm, unsigned long address)
{
	return lock_vma_under_rcu(mm, address);
}
"""
NEXT_PORTING = "\n---\n\n**mandatory**\n\nAll kernels have per-VMA locks.\n"


@pytest.mark.usefixtures("pinned")
def test_next_kernel(build, touched, tmp_path):
    """On base without CONFIG_PER_VMA_LOCK and its #else, all applies but what ports/next names,
    and nothing depends on the option but what it names."""
    if any(path.startswith("ports/") for path in mails(build)):
        pytest.skip("a port is for an older kernel")
    git = ("git", "-C", f"{build}/linux")
    files = run(*git, "grep", "-lw", "CONFIG_PER_VMA_LOCK", "base", "--", "*.[ch]")
    files = {line.partition(":")[2] for line in files.split()}
    run("gcc", "-w", "-o", str(tmp_path / "unifdef"), f"{build}/base/scripts/unifdef.c")
    for name in {*files, *touched, "mm/Kconfig"}:
        if os.path.exists(f"{build}/base/{name}"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f"{build}/base/{name}", tmp_path / name)
    for name in files:
        # Its status is 1 if it has changed something.
        run("./unifdef", "-DCONFIG_PER_VMA_LOCK", "-o", name, name, cwd=tmp_path, fails=True)
    for name, pattern, new in (
            ("mm/Kconfig", r"^config PER_VMA_LOCK\n(?:[\t ].*\n|\n)*", ""),
            ("mm/mmap_lock.c", r"^struct vm_area_struct \*lock_vma_under_rcu\([\s\S]*?^}\n",
             r"\g<0>" + NEXT_FUNCTION),
            ("Documentation/filesystems/porting.rst", r"\Z", NEXT_PORTING)):
        text, n = re.subn(pattern, new, text_of(tmp_path / name), flags=re.M)
        assert n == 1, name
        (tmp_path / name).write_text(text, encoding="utf-8")
    left = "".join(text_of(tmp_path / name) for name in files)
    assert left and "ifdef CONFIG_PER_VMA_LOCK\n" not in left
    wrong = set()
    for path in mails(build):
        said = run("git", "apply", "--reject", os.path.abspath(path), cwd=tmp_path, fails=True)
        wrong |= {f"{path} {name}" for name in re.findall(r"^error: patch failed: (.*?):", said,
                                                          re.M)}
        wrong |= set(re.findall(r"^\+[\t ]*(.*\b(?:CONFIG_)?PER_VMA_LOCK\b.*)$", text_of(path), re.M))
    known = dict(re.findall("^([^#].*?) # (.*)$", text_of("ports/next"), re.M))
    assert_none([f"{name}: not in ports/next" for name in sorted(wrong - known.keys())])
    assert_none([f"{name}: in ports/next, but all is well" for name in sorted(known.keys() - wrong)])


# ---- what checkers of the kernel say that they do not say of base ----

def warnings(text):
    """Counter of the warnings in TEXT, without line numbers and our paths."""
    found = collections.Counter()
    for line in text.splitlines():
        if re.search(r"\b(warning|error):", line, re.I):
            line = re.sub(r"/vfr/build/[^/]+/(?:out/[^/]+|linux|base)/", "", line.strip())
            line = re.sub(r"^(?:\.\./)*(?:linux|base)/", "", line)
            found[re.sub(r":\d+(:\d+)?(?=[: ])", "", line)] += 1
    return found


def new_warnings(say):
    """Lines: what say("linux") warns of and say("base") does not. Without a warning of the
    series' there is nothing to compare, and base is not looked at."""
    new = warnings(say("linux"))
    old = warnings(say("base")) if new else new
    # What sparse says of its own macros, once for each file, tells nothing of the file.
    return sorted(w for w in (new - old).elements() if not (w.startswith("builtin:") and w in old))


def kernel_doc(build, tree, files):
    # Once it was scripts/kernel-doc, and before that in Perl.
    program = next(name for name in ("tools/docs/kernel-doc", "scripts/kernel-doc")
                   if os.path.exists(f"{build}/{tree}/{name}"))
    said = run(f"./{program}", "-none", "-Wall", *files, fails=True, cwd=f"{build}/{tree}")
    assert "Traceback" not in said and files, said
    return said


def test_kernel_doc(build, touched):
    assert_none(new_warnings(lambda tree: kernel_doc(build, tree, [
        f for f in touched if f.endswith((".c", ".h")) and os.path.exists(f"{build}/{tree}/{f}")])))


def test_kernel_doc_can_fail(build, tmp_path):
    """An argument's description that is taken away is missed."""
    header = text_of(f"{build}/linux/include/linux/mm.h")
    cut = header.replace(" * @fault: Result of handle_mm_fault()", " * Result", 1)
    for tree, text in (("base", header), ("linux", cut)):
        (tmp_path / f"{tree}.h").write_text(text, encoding="utf-8")
    assert cut != header
    assert new_warnings(lambda tree: kernel_doc(build, "linux", [str(tmp_path / f"{tree}.h")]))


def test_htmldocs(build, touched):
    """`make htmldocs` of the sections of Documentation/ that are touched."""
    sections = sorted({os.path.dirname(f).partition("/")[2] for f in touched if f.endswith(".rst")})

    def say(tree):
        out = f"{build}/out/docs-{tree}"
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        said = run("make", "-s", "-C", f"{build}/{tree}", f"O=/vfr/{out}", "htmldocs",
                   f"SPHINXDIRS={' '.join(sections)}")
        assert glob.glob(f"{out}/Documentation/output/{sections[0]}/**/*.html", recursive=True)
        return said
    assert_none(new_warnings(say))


def test_lint(build, arch, touched):
    """W=1 and sparse on what is touched, in an output folder of its own: W=1 must not touch
    the kernel's."""
    facts = guest.arch_facts(arch)
    config = text_of(f"{kernel(build, arch)}/.config")
    folder = "x86" if arch == "x86_64" else arch
    sources = [f for f in touched if re.match(rf"(?!tools/|drivers/|arch/(?!{folder}/)).*\.c$", f)]
    if arch == DRIVERS_ARCH:
        config += text_of("lab/config/drivers.config")
        sources += {*DRIVERS, *(f for f in touched if re.match(r"drivers/.*\.c$", f))}

    def say(tree):
        out = f"{build}/out/{arch}-lint-{tree}"
        env = {**os.environ, "CCACHE_DIR": "/cache/ccache", "CCACHE_NOINODECACHE": "1"}
        make = functools.partial(
            run, "make", "-s", "-C", f"{build}/{tree}", f"O=/vfr/{out}", f"ARCH={facts['KARCH']}",
            f"CROSS_COMPILE={facts['CROSS']}", f"CC=ccache {facts['CROSS']}gcc",
            f"-j{os.cpu_count()}", env=env)
        os.makedirs(out, exist_ok=True)
        Path(out, ".config").write_text(config, "utf-8")
        make("olddefconfig")
        make("prepare")
        # What the series adds is not in the base.
        objects = [f"{f[:-2]}.o" for f in sources if os.path.exists(f"{build}/{tree}/{f}")]
        for name in objects:
            Path(out, name).unlink(missing_ok=True)
        said = make("-k", "W=1", "C=2", "CHECK=/vfr/lab/sparse.sh", *objects)
        assert "sparse is not available" not in said and "specified, but" not in said, said
        assert objects and all(os.path.exists(f"{out}/{name}") for name in objects)
        return said
    assert_none(new_warnings(say))


def test_sparse_can_fail():
    """sparse.sh sees a user pointer that is dereferenced."""
    said = run("lab/sparse.sh", "-", fails=True, input="int f(int __attribute__((noderef, "
               "address_space(__user))) *p) { return *p; }\n")
    assert "dereference" in said and warnings(said)


# ---- the models and the audit ----

def test_model(build):
    """Spin: what must hold does, and each mutant of the models is found."""
    said = run("docs/model/check.sh", f"{build}/model", fails=True).splitlines()
    assert_none([line for line in said if not line.startswith("ok ")])
    assert any(line.startswith("ok mutant ") for line in said)


@pytest.mark.usefixtures("pinned")
def test_audit(build):
    """Every part of a fault retry in the base has a row in docs/retry.md."""
    known = {name for name in exceptions(build) if re.search(r"\.\w+[:)]", name)}
    wrong = {line.split(": ")[0]: line for line in audit.check(f"{build}/base")}
    assert_none([wrong[name] for name in sorted(wrong.keys() - known)])
    assert not known - wrong.keys(), "in except, but nothing is wrong with it"


@pytest.mark.usefixtures("pinned")
def test_audit_can_fail(build, tmp_path):
    """A new producer, a new handler and a function that is gone are all found."""
    for file in {file for file, _ in audit.table()} - {"mm/hmm.c"}:
        if not os.path.exists(f"{build}/base/{file}"):
            continue
        os.makedirs((tmp_path / file).parent, exist_ok=True)
        shutil.copy(f"{build}/base/{file}", tmp_path / file)
    (tmp_path / "new.c").write_text("""static vm_fault_t new_fault(struct vm_fault *vmf)
{
	return VM_FAULT_RETRY;
}

static const struct vm_operations_struct new_ops = {
	.huge_fault = other_fault,
};
""", encoding="utf-8")
    wrong = "\n".join(audit.check(tmp_path))
    for found in ("new.c:new_fault: takes part", "other_fault (new.c)",
                  "mm/hmm.c:hmm_do_fault: has a row"):
        assert found in wrong
