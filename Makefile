# SPDX-License-Identifier: GPL-2.0-only
#
# make run    what the series does to mmap_lock waits under page-fault I/O
# make test   whether all is well
#
# The steps are scripts in scripts/; what is written here is what depends on
# what. Each one looks for itself whether its result is still good, and does
# nothing then.
#
# Variables: ARCH="x86_64 ..." (make test, bisectable), MUTANTS="NAME ..." (some of
# mutants/), SECONDS=600 (make integrity), MINUTES=15, JOBS=1 and SOAK="x86_64-soak ..."
# (make soak), ABUSE="WORD ..." (make abuse: tests with such a word, -WORD: without),
# FROM=1 (make bisectable: the first patch), PAIRS=5 (make run), ROUNDS=5 and
# WORKLOADS="e1 ..." (make evidence), KERNEL=/path/to/a git tree of yours as the base,
# ACCEL=kvm, DEBIAN_MIRROR=http://..., TREE=base (make boot), XDG_CACHE_HOME for the big
# reusable things.

include base.mk

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

ALL_ARCHS := $(shell scripts/archs.sh)
ARCH  ?= $(ALL_ARCHS)
PAIRS ?= 5
ROUNDS ?= 5
FROM  ?= 1
SECONDS ?= 600
TREE  ?= series
$(if $(filter base series,$(TREE)),,$(error TREE=$(TREE)? base or series))
export KERNEL DEBIAN_MIRROR ACCEL

# A path for the shell: it may have blanks, quotes or a dollar.
q = '$(subst ','\'',$1)'

CACHE := $(or $(value XDG_CACHE_HOME),$(value HOME)/.cache)/vm-fault-retry-hard
# What scripts/lib.sh needs to keep two runs apart.
export VFR_CACHE := $(CACHE)
export VFR_RUN := $(shell echo $$PPID)
# A build root is named after what goes into it.
ROOT  := $(CACHE)/root-$(shell cat config/packages scripts/root.sh | sha256sum | cut -c1-12)
ifdef KERNEL
git = git -c safe.directory='*'
override KERNEL := $(shell cd $(call q,$(KERNEL)) 2>/dev/null && $(git) rev-parse --show-toplevel 2>/dev/null)
$(if $(KERNEL),,$(error KERNEL is not a git tree: name the top of a Linux git tree, or leave it out))
B := build/kernel-$(shell $(git) -C $(call q,$(KERNEL)) rev-parse --verify -q --short=12 HEAD)
$(if $(filter build/kernel-,$(B)),$(error KERNEL has no commit yet: commit in it, or check out a branch))
else
B := build/$(patsubst linux-source-%,%,$(BASE_PACKAGE))
endif

STEPS = needs root base trees
IN   = scripts/inroot.sh $(call q,$(ROOT)) $(call q,$(CACHE))
STEP = @scripts/step.sh '$@' '$(B)/logs/$@.log' '$(STEPS)'

# ---- what a user calls ----

help: ## this list
	@echo 'The two commands: make run, make test. All targets:'
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
	@echo 'Architectures: $(ALL_ARCHS). Variables: see the top of the Makefile.'

PERF_KERNELS = kernel-x86_64-perf-base kernel-x86_64-perf-series
# The series on every architecture, the base on one: it shows what the tests prove.
DEBUG_KERNELS = $(if $(filter x86_64,$(ARCH)),kernel-x86_64-debug-base) \
	$(ARCH:%=kernel-%-debug-series)

# ARCH-FLAVOUR, or ARCH-FLAVOUR-base: see scripts/soak.py
SOAK ?= x86_64-soak x86_64-kcsan arm64-soak
MINUTES ?= 15
JOBS ?= 1
SOAK_ID := $(shell cat config/soak-packages scripts/soak-root.sh | sha256sum | cut -c1-12)
SOAK_ARCH = $(sort $(foreach k,$(SOAK),$(firstword $(subst -, ,$k))))
SOAK_KERNELS = $(foreach k,$(SOAK),$(if $(filter %-base,$k),kernel-$k,kernel-$k-series))

TRUST_KERNELS = kernel-x86_64-trust-base kernel-x86_64-trust-series

# The user land that selftests/mm runs in, and the kernels for it: see scripts/mm-selftests.py.
MM_ARCH = $(filter x86_64 arm64,$(ARCH))
MM_ID  := $(shell cat config/mm-packages scripts/mm-root.sh | sha256sum | cut -c1-12)
MM_KERNELS = $(foreach a,$(MM_ARCH),mm-kernel-$a-base mm-kernel-$a-series)
# config/FLAVOUR.config of an architecture's kernels for it.
mm-flavour = $(if $(filter x86_64,$1),mm,mm-$1)

run: STEPS = needs root base trees $(PERF_KERNELS) measure
run: measure ## build base and series, boot both in pairs, show what differs (quick)
	@cat $(B)/results/table.txt
	@echo 'The picture: $(B)/results/contend.svg (and .png); all samples: contend.json'
	@echo 'The long form, with all floors and more pairs: make run-long PAIRS=10'

run-long: STEPS = needs root base trees $(PERF_KERNELS) measure-long
run-long: measure-long ## the same with longer runs, all floors, PAIRS=10 or so
	@cat $(B)/results/table.txt

EXPERIMENTS = $(patsubst experiments/%.patch,%,$(wildcard experiments/*.patch))
EXPERIMENT_KERNELS = $(EXPERIMENTS:%=experiment-%)

# The real programs, and the image they are in: see scripts/real-image.sh.
REAL_ID := $(shell cat config/real-packages scripts/real-root.sh | sha256sum | cut -c1-12)

evidence: STEPS = needs root base trees $(PERF_KERNELS) exp-tree $(EXPERIMENT_KERNELS) real-root real-image compare
evidence: compare ## all workloads on base, series and experiments/ (hours; goes on where it was)
	@cat $(B)/results/evidence.txt
	@echo 'The picture: $(B)/results/evidence.svg (and .png); all samples: evidence.json'

test: STEPS = needs root base trees $(DEBUG_KERNELS) tests
test: tests ## all tests; ARCH="..." for some architectures

integrity: STEPS = needs root base trees kernel-x86_64-debug-series integrity-run
integrity: integrity-run ## every page right under all calls that change mappings; SECONDS=600
	@sed '/^All that it printed:/,$$d' $(B)/results/integrity.txt

kunit: STEPS = needs root base trees kunit
kunit: known-archs trees ## the series' KUnit suites by kunit.py, in QEMU for each ARCH
	$(STEP) env ACCEL=$(or $(ACCEL),tcg) $(IN) scripts/kunit.sh $(B) $(ARCH)

mutants: STEPS = needs root base trees mutants-tree mutate
mutants: mutate ## break the series in one place at a time: its own tests must notice
	@cat $(B)/mutants/results/mutants.txt

variants: STEPS = needs root base trees mutants-tree vary
variants: vary ## what would be lost without this or that part of the series
	@cat $(B)/mutants/results/variants.txt

trust: STEPS = needs root base trees $(TRUST_KERNELS) trust-tests
trust: trust-tests ## forward progress, fault injection, attempts seen by a tracer: base beside series
	@cat $(B)/results/trust.txt

soak: STEPS = needs root base trees $(SOAK_KERNELS) $(SOAK_ARCH:%=soak-root-%) $(SOAK_ARCH:%=soak-image-%) soak-run
soak: soak-run ## kselftest, stress-ng, trinity side by side under KASAN and KCSAN; MINUTES=15 a kernel, JOBS=1
	@cat $(B)/results/soak.txt

bisectable: STEPS = needs root base trees bisect-tree commits
bisectable: commits ## build and boot every commit on every ARCH (hours; goes on where it was)
	@cat $(B)/bisect/results/bisectable.txt

no-vma-lock: STEPS = needs root base trees no-vma-lock
no-vma-lock: trees ## build the series for kernels without per-VMA locks: UML, !SMP, nommu
	$(STEP) $(IN) scripts/no-vma-lock.sh $(B)

model: STEPS = needs root model
model: root ## prove the bound, the flags and the locks of the retry by Spin, and find its mutants
	$(STEP) $(IN) model/check.sh $(B)/model

size: STEPS = needs root base trees size
size: known-archs trees ## what the series adds to the fault handler of each ARCH, in bytes
	$(STEP) $(IN) scripts/size.py $(B) $(ARCH)

mm-selftests: STEPS = needs root base trees $(MM_ARCH:%=mm-root-%) $(MM_KERNELS) $(MM_ARCH:%=mm-programs-%) mm-compare
mm-selftests: mm-compare ## all of selftests/mm, base beside series (hours; goes on where it was)
	@cat $(B)/results/mm-selftests.txt

boot: STEPS = needs root base trees kernel-x86_64-perf-$(TREE)
boot: kernel-x86_64-perf-$(TREE) ## a guest with a shell (TREE=base for the base kernel); ctrl-a x ends it
	$(IN) scripts/guest.py $(B)/out/x86_64-perf-$(TREE) x86_64 --shell

abuse: STEPS = needs root base abuse
abuse: base ## the harness killed, on a full disk, without a network ... (half an hour); ABUSE="WORD ..." for some
	$(STEP) scripts/abuse.py $(B) $(call q,$(ROOT)) $(call q,$(CACHE)) $(ABUSE)

tree: STEPS = needs root base trees
tree: trees ## the kernel as a git tree, build/<base>/linux: base, fixes/, patches/
	@echo 'The series as a git tree: $(B)/linux (branch series; its base is branch base)'

series: ## regenerate fixes/ and patches/ from the commits in that tree
	@scripts/alone.sh $(IN) scripts/series.sh $(B)

clean: ## remove build/ (refused while the tree has commits that are not in patches/)
	@scripts/clean.sh

distclean: ## remove the cache, too: build root, base kernel, ccache
	@scripts/clean.sh $(call q,$(CACHE))

# ---- the steps ----

needs:
	$(STEP) scripts/needs.sh $(call q,$(CACHE)) $(call q,$(ROOT)) build

root: needs
	$(STEP) scripts/root.sh $(call q,$(ROOT))

base: root
	$(STEP) $(if $(KERNEL),echo up to date,$(IN) scripts/base.sh)

trees: base
	$(STEP) $(IN) scripts/tree.sh $(B)

# kernel-ARCH-FLAVOUR-TREE. Never a file: made whenever it is asked for. In a test
# one that does not build is a failure among others, and the rest goes on.
kernel-%: known-archs trees
	$(STEP) $(IN) scripts/kernel-and-guest.sh $(B) $(subst -, ,$*) \
		$(if $(filter test,$(MAKECMDGOALS)),|| [ $$? != 130 ])

measure: $(PERF_KERNELS)
	$(STEP) $(IN) scripts/measure.py $(B) x86_64 $(PAIRS) quick

measure-long: $(PERF_KERNELS)
	$(STEP) $(IN) scripts/measure.py $(B) x86_64 $(PAIRS) long

exp-tree: trees
	$(STEP) $(IN) scripts/clone-tree.sh $(B) exp

experiment-%: exp-tree
	$(STEP) env AT=$(B)/exp $(IN) scripts/experiment.sh $(B) $*

real-root: needs
	$(STEP) scripts/real-root.sh $(call q,$(CACHE)/real-root-$(REAL_ID))

real-image: root real-root
	$(STEP) $(IN) scripts/real-image.sh $(B) /cache/real-root-$(REAL_ID)

compare: $(PERF_KERNELS) $(EXPERIMENT_KERNELS) real-image
	$(STEP) $(IN) scripts/evidence.py $(B) $(ROUNDS) $(WORKLOADS)

tests: known-archs $(DEBUG_KERNELS)
	$(STEP) $(IN) scripts/test.py $(B) $(ARCH); rc=$$?; tail -n 1 $(B)/logs/tests.log; exit $$rc

integrity-run: kernel-x86_64-debug-series
	$(STEP) $(IN) scripts/integrity.py $(B) $(SECONDS)

bisect-tree: trees
	$(STEP) $(IN) scripts/clone-tree.sh $(B) bisect

commits: known-archs bisect-tree
	$(STEP) env AT=$(B)/bisect $(IN) scripts/bisectable.py $(B) $(FROM) $(ARCH)

mutants-tree: trees
	$(STEP) $(IN) scripts/clone-tree.sh $(B) mutants

mutate: mutants-tree
	$(STEP) env AT=$(B)/mutants $(IN) scripts/mutants.py $(B) $(MUTANTS)

vary: mutants-tree
	$(STEP) env AT=$(B)/mutants $(IN) scripts/variants.py $(B)

trust-tests: $(TRUST_KERNELS)
	$(STEP) $(IN) scripts/trust.py $(B); rc=$$?; tail -n 1 $(B)/logs/trust-tests.log; exit $$rc

soak-root-%: needs
	$(STEP) scripts/soak-root.sh $* $(call q,$(CACHE)/soak-root-$*-$(SOAK_ID))

soak-image-%: root soak-root-%
	$(STEP) $(IN) scripts/soak-image.sh $(B) $* /cache/soak-root-$*-$(SOAK_ID)

soak-run: $(SOAK_KERNELS) $(SOAK_ARCH:%=soak-image-%)
	$(STEP) $(IN) scripts/soak.py $(B) $(MINUTES) $(JOBS) $(SOAK); rc=$$?; tail -n 1 $(B)/logs/soak-run.log; exit $$rc

mm-root-%: needs
	$(STEP) scripts/mm-root.sh $* $(call q,$(CACHE)/mm-root-$*-$(MM_ID))

# mm-kernel-ARCH-TREE
mm-kernel-%: trees
	$(STEP) $(IN) scripts/kernel.sh $(B) $(word 1,$(subst -, ,$*)) \
		$(call mm-flavour,$(word 1,$(subst -, ,$*))) $(word 2,$(subst -, ,$*))

mm-programs-%: $(MM_KERNELS)
	$(STEP) $(IN) scripts/mm-programs.sh $(B) $* $(call mm-flavour,$*) /cache/mm-root-$*-$(MM_ID)

mm-compare: known-archs $(MM_ARCH:%=mm-root-%) $(MM_KERNELS) $(MM_ARCH:%=mm-programs-%)
	$(STEP) $(IN) scripts/mm-selftests.py $(B) $(MM_ID) $(MM_ARCH); rc=$$?; tail -n 1 $(B)/logs/mm-compare.log; exit $$rc

known-archs:
	@scripts/archs.sh $(ARCH)

.PHONY: help run run-long evidence exp-tree real-root real-image compare test integrity integrity-run kunit \
	mutants mutants-tree mutate variants vary trust trust-tests soak soak-run abuse \
	bisectable bisect-tree commits no-vma-lock model size boot tree series clean distclean needs root base \
	trees measure measure-long tests mm-selftests mm-compare known-archs
