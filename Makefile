# Works with GNU make 3.81 and later. PYTHON=/path/to/python chooses the interpreter.
VENV ?= .venv
BIN := $(VENV)/bin
MINOR := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: compare test lint validate bench clean

compare: $(VENV)/.run          ## install, compare the routes, write the report
	$(BIN)/sepmodel compare

test: $(VENV)/.dev             ## install with the test tools, run the tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev             ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

validate: $(VENV)/.dev         ## published data against the models: the verdict table
	$(BIN)/sepmodel validate
	$(BIN)/python -m pytest -n 2 -m slow

bench: $(VENV)/.dev            ## timings, printed as ratios within one run
	$(BIN)/python validation/benchmarks/run.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

# The environment: the first interpreter of 3.11 or later, then the first tool that can make one.
$(VENV)/.made:
	@set -e; found=; \
	for p in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python; do \
	  if command -v "$$p" >/dev/null 2>&1 && "$$p" -c '$(MINOR)' >/dev/null 2>&1; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "sepmodel needs Python 3.11 or later; install it or give PYTHON=/path/to/python" >&2; exit 1; fi; \
	if "$$found" -m venv $(VENV) >/dev/null 2>&1; then :; \
	elif command -v uv >/dev/null 2>&1 && rm -rf $(VENV) && uv venv -q --seed -p "$$found" $(VENV); then :; \
	elif rm -rf $(VENV) && "$$found" -m virtualenv -q $(VENV) >/dev/null 2>&1; then :; \
	else rm -rf $(VENV); echo "cannot make a virtual environment: install python3-venv (Debian, Ubuntu), uv or virtualenv" >&2; exit 1; fi
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $(VENV)/.run $@
