# SPDX-License-Identifier: GPL-2.0-only
#
#	make run    what the series does to mmap_lock waits under page-fault I/O
#	make test   whether all is well
#
# Variables: ARCH="x86_64 arm64" (test, bisect), K="WORDS" (test: pytest's -k), TREE=base (boot),
# W="e1i e8", KERNELS="base series", ROUNDS=3, TIME=wall, KEPT=1 (figures: tell what there is),
# M="NAME ..." (mutants), WHAT=... (more), CONFIG=... (packages), BASE=6.12 (or 6.18, 7.2: see
# ports/README.md), KERNEL=/path/to/linux (your tree as the base), ACCEL=kvm,
# ENGINE=slurm (test, figures: on many machines), DEBIAN_MIRROR=http://..., XDG_CACHE_HOME (for
# the big reusable things).

include base.mk

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help

ARCHS := $(shell sed -n 's/^\([a-z][a-z0-9_]*\) .*/\1/p' lab/config/archs)
ARCH ?= $(ARCHS)
TREE ?= series
override KERNEL := $(if $(KERNEL),$(abspath $(KERNEL)))
export KERNEL BASE ACCEL DEBIAN_MIRROR TIME GUEST_EXTRA

unknown := $(filter-out $(ARCHS),$(ARCH))
$(if $(unknown),$(error unknown architecture '$(unknown)'; known: $(ARCHS)))
$(if $(filter base series,$(TREE)),,$(error TREE=$(TREE)? base or series))
$(if $(filter-out slurm,$(ENGINE)),$(error ENGINE=$(ENGINE)? slurm, or leave it out))
q = '$(subst ','\'',$1)'
B := $(shell KERNEL=$(call q,$(KERNEL)) BASE=$(call q,$(BASE)) lab/tree.sh --name)
$(if $(B),,$(error see above))

IN = lab/in.sh
STEP = @lab/step.sh '$@' '$(B)/logs/$@.log'
GIT = git -c safe.directory='*' -C '$(AT)/linux'

help:
	@echo 'The two commands: make run, make test. All:'
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12
	@echo 'Architectures: $(ARCHS). Variables: see the top of the Makefile.'

# A guest that failed is told in the table, which is shown, and the step fails.
CHOICE = $(if $(W),--workloads '$(W)') $(if $(ROUNDS),--rounds $(ROUNDS)) \
	$(if $(TIME),--time $(TIME)) $(if $(KEPT),--kept); \
	status=$$?; cat $(B)/results/$@.txt; exit $$status
run: kernel-x86_64-perf-base kernel-x86_64-perf-series ## base and series: what differs
	$(STEP) $(IN) lab/figures.py $(B) run $(CHOICE)

# The series on every architecture, the base on one: it shows what the tests prove.
TESTED = $(if $(filter x86_64,$(ARCH)),kernel-x86_64-debug-base) $(ARCH:%=kernel-%-debug-series)
test: $(if $(ENGINE),setup,$(TESTED)) ## all tests; ARCH="..." for some architectures
	$(STEP) $(if $(ENGINE),lab/slurm.sh $(B) test, \
		$(IN) python3 -m pytest -n 2 --dist loadgroup lab --build $(B)) --arch '$(ARCH)' \
		$(if $(K),-k '$(K)'); status=$$?; tail -n 1 $(B)/logs/$@.log; exit $$status

boot: kernel-x86_64-perf-$(TREE) ## a guest with a shell (TREE=base: base); ctrl-a x ends it
	$(IN) lab/guest.py $(B)/out/x86_64-perf-$(TREE) x86_64 --shell

ALTERNATIVES = $(patsubst alternatives/%.patch,%,$(wildcard alternatives/*.patch))
KERNELS ?= base series $(ALTERNATIVES)
MEASURED = $(patsubst %,kernel-x86_64-perf-%,$(filter base series,$(KERNELS))) \
	$(patsubst %,alternative-%,$(filter $(ALTERNATIVES),$(KERNELS)))
figures: $(MEASURED) ## all workloads on all kernels (hours; goes on where it was)
	$(STEP) $(if $(ENGINE),lab/slurm.sh,$(IN) lab/figures.py) $(B) figures \
		--kernels '$(KERNELS)' $(CHOICE)

series: ## regenerate patches/, fixes/ and the view from the commits in the tree
	$(STEP) $(IN) lab/series.sh $(B)

tree: setup ## the kernel as a git tree: base, fixes/, patches/
	$(STEP) $(IN) lab/tree.sh $(B)
	@echo 'The tree: $(B)/linux (branches base, fixes, series)'

# Tests that leave the line of each as their result.
LINES = ; status=$$?; sed -nE 's/^(@ )?((ok|FAILED) .*)/\2/p; $$p' '$(B)/logs/$@.log' | \
	tee '$(B)/results/$@.txt'; exit $$status
mutants: tree ## break the series in one place at a time: its tests must notice
	@$(IN) lab/clone.sh $(B) mutants
	$(STEP) env AT=$(B)/mutants $(IN) python3 -m pytest \
		$(or $(M:%='lab/mutants.py::test_mutant[%]'),lab/mutants.py) --build $(B) $(LINES)

bisect: tree ## build and boot every commit on every ARCH (hours; goes on where it was)
	@$(IN) lab/clone.sh $(B) bisect
	$(STEP) env AT=$(B)/bisect $(IN) python3 -m pytest lab/commits.py --build $(B) \
		--arch '$(ARCH)' $(LINES)

packages: tree ## Debian packages of base and series for real machines: CONFIG=/boot/config-...
	@[ -f '$(CONFIG)' ] || { echo 'CONFIG=$(CONFIG)? the configuration of a kernel: CONFIG=/boot/config-...' >&2; exit 1; }
	@cp '$(CONFIG)' $(B)/packages.config
	$(STEP) $(IN) lab/packages.sh $(B) $(B)/packages.config

more: tree ## what is not about this series: WHAT=...
	@$(MAKE) -f more/Makefile B=$(B) $(WHAT)

clean: ## remove build/ (refused while a tree has work that is not in patches/)
	@for tree in build/*/linux; do lab/tree.sh "$${tree%/linux}" --saved || exit 1; done
	rm -rf build

setup:
	@mkdir -p build
	$(STEP) lab/setup.sh

# kernel-ARCH-FLAVOUR-TREE. In `make test` one that does not build is a failure among
# others, and the rest goes on.
kernel-%: tree
	$(STEP) $(IN) lab/build.sh $(B) $(subst -, ,$*) \
		$(if $(filter test,$(MAKECMDGOALS)),|| [ $$? != 130 ])

# "Applies to:" in an alternative's patch says which branch it goes on.
alternative-%: AT = $(B)/alternatives
alternative-%: tree
	@$(IN) lab/clone.sh $(B) alternatives
	@$(GIT) checkout -q --force --detach $$(sed -n 's/^Applies to: //p' alternatives/$*.patch)
	@$(GIT) apply --index $(CURDIR)/alternatives/$*.patch
	$(STEP) env AT=$(AT) $(IN) lab/build.sh $(B) x86_64 perf $*

.PHONY: help run test boot figures series tree mutants bisect packages more clean setup
