# Every command of the project. Targets create the environment that they need and reuse it until a
# lock file changes; `make help` lists them. Settings: PYTHON=/path/to/python3, TILES=folder, OUT=folder,
# DIST=folder, EXTRAS=scan,openvino, TEST_JOBS=number of test processes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# A recipe is one script: it stops at the first failure, and its lines share variables.
.ONESHELL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

TILES ?= samples
OUT ?= out
DIST ?= dist
PYTHON ?=
PYTEST_ARGS ?=
PEERS_ARGS ?=
SCAN_ARGS ?=
LOCUST_ARGS ?=
TEST_JOBS ?= 2

# Two environments (docs/adr/0007): .venv serves and has no torch; .venv-dev has everything.
VENV := .venv
DEV := .venv-dev
# Only pytest and hypothesis, added to the path of .venv to test the service without torch.
TOOLS := .venv-test-tools
# Ids of the tests that passed there.
PASSED := $(TOOLS)/passed-tests
# The packages for serving and scans, and Ray for scans over several machines; separate, as it is large.
RAY := .venv-ray
# The tool that lists the packages of an installation, added in the same way.
BILL := .venv-sbom-tools

# An environment holds absolute paths: the stamp's name follows the folder, so that a copied or
# moved checkout makes its own. A stamp is written last; without one the environment is made again.
HERE := $(shell printf '%s' '$(CURDIR)' | cksum | cut -d ' ' -f 1)
VENV_READY := $(VENV)/.ready-$(HERE)
DEV_READY := $(DEV)/.ready-$(HERE)
VENV_PACKAGES := $(VENV)/.packages-$(HERE)
DEV_PACKAGES := $(DEV)/.packages-$(HERE)
RAY_READY := $(RAY)/.ready-$(HERE)
RAY_PACKAGES := $(RAY)/.packages-$(HERE)
TOOLS_READY := $(TOOLS)/.ready-$(HERE)
BILL_READY := $(BILL)/.ready-$(HERE)

# Extras with a lock of their own that belong into .venv: `make install EXTRAS=scan,openvino` adds them
# to the installed ones. They stay until `make distclean`, also when a lock changes or making .venv
# fails, since their names, one a line, are in a file outside it.
EXTRAS_FILE := .venv-extras
KNOWN_EXTRAS := openvino postgres rtx scan tracing
# Extras of the images (Dockerfile, SEMSR_EXTRAS), and of the archive unless EXTRAS= names others or none.
IMAGE_EXTRAS := scan postgres tracing
EXTRAS ?=
comma := ,
WANTED_EXTRAS := $(sort $(filter-out none,$(subst $(comma), ,$(EXTRAS))))
UNKNOWN_EXTRAS := $(filter-out $(KNOWN_EXTRAS),$(WANTED_EXTRAS))
ifneq ($(UNKNOWN_EXTRAS),)
$(error unknown extra in EXTRAS: $(UNKNOWN_EXTRAS); the known ones are $(KNOWN_EXTRAS). Ray: \
make install-ray; training and export: make install-dev; NVIDIA data-centre cards: docs/engines.md)
endif
# The stamps too: environments older than the file have no other list.
INSTALLED_EXTRAS := $(filter $(KNOWN_EXTRAS),$(sort $(shell cat $(EXTRAS_FILE) 2>/dev/null) \
	$(foreach stamp,$(notdir $(wildcard $(VENV)/.extra-*)),$(word 2,$(subst -, ,$(stamp))))))
# The archive's extras are not installed on this machine.
VENV_EXTRAS := $(sort $(INSTALLED_EXTRAS) $(if $(filter airgap,$(MAKECMDGOALS)),,$(WANTED_EXTRAS)))
VENV_EXTRA_STAMPS := $(VENV_EXTRAS:%=$(VENV)/.extra-%-$(HERE))
# A lock includes others (requirements/layers.py): a change of one of them changes the environment too.
DEV_LOCKS := $(patsubst %,requirements/%.txt,dev base build test sbom loadtest $(KNOWN_EXTRAS))
RAY_LOCKS := $(patsubst %,requirements/%.txt,ray scan base build test)
# Adds missing names to the file.
remember = for extra in $(1); do grep -qsx "$$extra" $(EXTRAS_FILE) || echo "$$extra" >> $(EXTRAS_FILE); done

PIP_INSTALL := -m pip -qq --disable-pip-version-check --no-input install --progress-bar off
# Exactly the locked files, by hash: nothing resolved, nothing built; Python compiles at first import.
LOCKED := --require-hashes --no-deps --only-binary=:all: --no-compile
# The project itself, as a path entry: needs no network and no compiler.
PROJECT := --no-deps --no-build-isolation --editable .

# ------------------------------------------------------------------------------------ run

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV_READY) ## Serve the shipped bundle, send tiles over HTTP, write LR | bicubic | SR (TILES=, OUT=)
	@$(VENV)/bin/semsr demo --tiles '$(TILES)' --out '$(OUT)'

.PHONY: serve
serve: $(VENV_READY) ## Serve the shipped bundle until Ctrl-C (SEMSR_PORT=, SEMSR_BUNDLE=, SEMSR_ENGINE=)
	@exec $(VENV)/bin/semsr serve

.PHONY: bench
bench: $(VENV_READY) ## Measure the engine alone, the service over it, and nginx where it is installed
	@$(VENV)/bin/semsr bench

# The figures of docs/measurements/benchmarks.md, written there by the commands themselves. They need a
# quiet machine. For a short trial, set SCENARIOS=, PEERS_ARGS= and SCAN_ARGS=; an empty PAGE= writes no page.
SCENARIOS ?= throughput low-load overload online engine-kill metrics-cost ceiling
PAGE ?= docs/measurements/benchmarks.md
LOADTESTS = $(DEV)/bin/python -m loadtests
INTO_PAGE = $(if $(PAGE),--page '$(PAGE)')

.PHONY: bench-service
bench-service: $(DEV_READY) ## Load the service in every way, into docs/measurements/benchmarks.md (half an hour; SCENARIOS=, PAGE=)
	@# A scenario that fails here does not stop the others.
	failed=
	for scenario in $(SCENARIOS); do
		echo "== $$scenario"
		$(LOADTESTS) $$scenario $(INTO_PAGE) || failed="$$failed $$scenario"
	done
	test -z "$$failed" || { echo "not measured:$$failed" >&2; exit 1; }

.PHONY: bench-peers
bench-peers: $(DEV_READY) ## Compare our modes, nginx and other serving products, into docs/measurements/benchmarks.md
	@$(LOADTESTS) peers $(INTO_PAGE) $(PEERS_ARGS)

.PHONY: bench-scan
bench-scan: $(DEV_READY) ## A nightly scan against the limits of cores and disk, into docs/measurements/benchmarks.md (SCAN_ARGS=, PAGE=)
	@$(LOADTESTS) scan $(INTO_PAGE) $(SCAN_ARGS)

.PHONY: bench-scan-cluster
bench-scan-cluster: $(RAY_READY) ## One scan on Ray clusters of this machine, into docs/measurements/benchmarks.md (SCAN_ARGS=, PAGE=)
	@$(RAY)/bin/python -m loadtests scan-cluster $(INTO_PAGE) $(SCAN_ARGS)

.PHONY: loadtest
loadtest: $(DEV_READY) ## Load a new service with Locust's users (LOCUST_ARGS="--seconds 60 HostileUser")
	@$(LOADTESTS) locust $(LOCUST_ARGS)

.PHONY: wheel
wheel: $(VENV_READY) ## Wheels into dist/: what serves, with the shipped bundles; the client; the napari plugin (DIST=)
	@for project in . client client/napari; do
		$(VENV)/bin/python -m pip -qq --disable-pip-version-check wheel --no-index --no-deps \
			--no-build-isolation --wheel-dir '$(DIST)' "./$$project"
	done
	ls -1 '$(DIST)'/*.whl

.PHONY: airgap
airgap: $(VENV_READY) $(BILL_READY) ## One archive that installs the service without network (DIST=, EXTRAS=)
	@$(VENV)/bin/python deploy/airgap/make_archive.py --sbom-tools $(BILL) --out '$(DIST)' \
		--extras $(if $(EXTRAS),$(WANTED_EXTRAS),$(IMAGE_EXTRAS))

# ----------------------------------------------------------------------------------- check

.PHONY: test
test: ## Everything CI runs: format, lint, types, tests, the service without torch
	@# Each command's output is printed in one piece. The service's tests run where torch is absent;
	@# then the remaining tests run in the development environment.
	$(MAKE) -j 2 --output-sync=target install install-dev
	$(MAKE) -j 2 --output-sync=target lint types
	$(MAKE) test-service
	$(MAKE) test-all PYTEST_ARGS="--passed-in=$(PASSED) $(PYTEST_ARGS)"

.PHONY: lint
lint: $(DEV_READY) ## Check format, style, spelling and the direction of imports
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/typos
	$(DEV)/bin/lint-imports --no-logo

.PHONY: types
types: $(DEV_READY) ## Check types
	$(DEV)/bin/pyright

.PHONY: test-service
test-service: $(VENV_READY) $(TOOLS_READY) ## Run the service's tests with the serving packages alone (no torch)
	PYTHONPATH=$(TOOLS) $(VENV)/bin/python -m pytest -n $(TEST_JOBS) -p no:cacheprovider --passed-to=$(PASSED) tests/bundle_format tests/engines tests/service

.PHONY: test-all
test-all: $(DEV_READY) ## Run every quick test (PYTEST_ARGS="-k codec" for some)
	$(DEV)/bin/pytest -n $(TEST_JOBS) $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: $(DEV_READY) ## Run the tests that take minutes (PYTEST_ARGS= for some, without Ray's)
	$(DEV)/bin/pytest -m slow $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,$(MAKE) test-ray)

.PHONY: test-ray
test-ray: $(RAY_READY) ## Run the tests of scans over Ray clusters, in .venv-ray (as root: also over namespaces)
	$(RAY)/bin/python -m pytest -m slow tests/test_scan_cluster.py tests/test_scan_machines.py

.PHONY: format
format: $(DEV_READY) ## Format the code and apply the safe fixes
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

.PHONY: docs
docs: $(DEV_READY) ## Regenerate docs/configuration.md from the settings
	@$(DEV)/bin/python -m semsr.reference

.PHONY: deploy-files
deploy-files: $(DEV_READY) ## Regenerate the generated files of deploy/
	@$(DEV)/bin/python -m deploy.grafana
	$(DEV)/bin/python -m deploy.kubernetes

# ---------------------------------------------------------------------------- environments

.PHONY: install
install: $(VENV_READY) ## Make the serving environment, .venv, or add to it (EXTRAS=scan,openvino)

.PHONY: install-dev
install-dev: $(DEV_READY) ## Make the development environment, .venv-dev (torch and all tools)

.PHONY: install-ray
install-ray: $(RAY_READY) ## Make .venv-ray: serving, scans, and Ray for scans over several machines

$(VENV_PACKAGES): requirements/base.txt requirements/build.txt
	@python="$$(PYTHON='$(PYTHON)' requirements/find-python)"
	echo "Making $(VENV) with $$python: the service, without torch"
	$(call remember,$(INSTALLED_EXTRAS))
	rm -rf $(VENV)
	"$$python" -m venv $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) $(LOCKED) -r requirements/base.txt -r requirements/build.txt
	touch $@

$(DEV_PACKAGES): $(DEV_LOCKS) requirements/torch.txt
	@python="$$(PYTHON='$(PYTHON)' requirements/find-python)"
	echo "Making $(DEV) with $$python: everything, torch too (a minute or more)"
	rm -rf $(DEV)
	"$$python" -m venv $(DEV)
	$(DEV)/bin/python $(PIP_INSTALL) $(LOCKED) -r requirements/dev.txt
	$(DEV)/bin/python $(PIP_INSTALL) --only-binary=:all: --no-compile -r requirements/torch.txt
	touch $@

$(RAY_PACKAGES): $(RAY_LOCKS)
	@python="$$(PYTHON='$(PYTHON)' requirements/find-python)"
	echo "Making $(RAY) with $$python: scans over several machines (a minute or more)"
	rm -rf $(RAY)
	"$$python" -m venv $(RAY)
	$(RAY)/bin/python $(PIP_INSTALL) $(LOCKED) -r requirements/ray.txt -r requirements/build.txt -r requirements/test.txt
	touch $@

# One after the other, also under `make -j`: two simultaneous installations into one environment can
# corrupt each other's packages.
$(foreach extra,$(VENV_EXTRAS),\
	$(eval $(VENV)/.extra-$(extra)-$(HERE): | $(EARLIER_EXTRA))\
	$(eval EARLIER_EXTRA := $(VENV)/.extra-$(extra)-$(HERE)))

# $* is the extra.
$(VENV)/.extra-%-$(HERE): requirements/%.txt $(VENV_PACKAGES)
	@echo "Adding the extra $* to $(VENV)"
	$(VENV)/bin/python $(PIP_INSTALL) $(LOCKED) -r $<
	$(call remember,$*)
	touch $@

$(VENV_READY): $(VENV_PACKAGES) $(VENV_EXTRA_STAMPS) pyproject.toml
	@$(VENV)/bin/python $(PIP_INSTALL) $(PROJECT)
	touch $@

$(RAY_READY): $(RAY_PACKAGES) pyproject.toml
	@$(RAY)/bin/python $(PIP_INSTALL) $(PROJECT)
	touch $@

$(DEV_READY): $(DEV_PACKAGES) pyproject.toml
	@$(DEV)/bin/python $(PIP_INSTALL) $(PROJECT)
	touch $@

$(TOOLS_READY): requirements/test.txt $(VENV_PACKAGES)
	@rm -rf $(TOOLS)
	$(VENV)/bin/python $(PIP_INSTALL) $(LOCKED) --target $(TOOLS) -r requirements/test.txt
	touch $@

# ----------------------------------------------------------------------------------- locks

$(BILL_READY): requirements/sbom.txt $(VENV_PACKAGES)
	@rm -rf $(BILL)
	$(VENV)/bin/python $(PIP_INSTALL) $(LOCKED) --target $(BILL) -r requirements/sbom.txt
	touch $@

UV ?= $(shell command -v uv || echo $(DEV)/bin/uv)
# For Python 3.11 and newer in one file; one version of a package for all of them; a week's
# cooldown, so that a release that is withdrawn or turns out malicious is not picked up at once.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --annotation-style line --no-config --custom-compile-command 'make lock' \
	--exclude-newer '7 days' --excludes requirements/without-torch.in $(if $(UPGRADE),--upgrade)
.PHONY: lock
lock: ## Update requirements/*.txt (maintainers; needs uv; UPGRADE=1 for newer versions)
	@$(UV) --version || { echo 'make lock needs uv: pip install uv, or UV=/path/to/uv' >&2; exit 1; }
	locks=requirements
	compile() { $(COMPILE) "$$@"; }
	# dev.txt first: it holds everything, and the others then take its versions.
	compile pyproject.toml $$locks/torch-needs.in --extra openvino --extra rtx --extra scan --extra tracing --extra postgres --extra train --extra export --extra loadtest --group dev -o $$locks/dev.txt
	same="--constraints $$locks/dev.txt"
	compile pyproject.toml $$same -o $$locks/base.txt
	for extra in $(KNOWN_EXTRAS) loadtest; do
		compile pyproject.toml $$same --extra $$extra -o $$locks/$$extra.txt
	done
	compile pyproject.toml $$same --extra scan --extra ray -o $$locks/ray.txt
	for group in build test sbom; do compile $$same --group $$group -o $$locks/$$group.txt; done
	# The comments name the packages that require an entry; uv adds the file of constraints to each.
	sed -i "s|-c $$locks/dev.txt, ||; s|, -c $$locks/dev.txt||" $$locks/*.txt
	# The same lock with file names, for which uv wants this file's name.
	files=$$(mktemp -d); trap 'rm -rf "$$files"' EXIT
	compile pyproject.toml $$locks/torch-needs.in $$same --extra openvino --extra rtx --extra scan --extra tracing --extra postgres --extra train --extra export --extra loadtest --group dev --format pylock.toml -o $$files/pylock.dev.toml
	python=$$(PYTHON='$(PYTHON)' requirements/find-python)
	$$python requirements/platforms.py $$files/pylock.dev.toml $$locks
	$$python requirements/layers.py $$locks

# ----------------------------------------------------------------------------------- clean

.PHONY: clean
clean: ## Remove what was built, caches and out/ (environments stay)
	@rm -rf build dist out $(TOOLS) $(BILL) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove the environments too
	@rm -rf $(VENV) $(DEV) $(RAY) .venv-peers $(EXTRAS_FILE)
