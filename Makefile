# Everything from a fresh clone with Python 3.10+, pip and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernels/csrc/*)

.PHONY: demo test check sanitize check-threads check-arm clean

demo: $(VENV)/installed $(VENV)/matchers
	$(BIN)/sparse3d recon examples/photos -o out/demo
	@echo "Open out/demo/report.html, or walk around: $(BIN)/sparse3d view out/demo"

test: $(VENV)/installed-dev $(VENV)/matchers
	$(BIN)/pytest --cov --cov-report=term

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/typecheck.py

# Not part of `test`: minutes each, see CONTRIBUTING.md.
sanitize: $(VENV)/installed-dev
	$(BIN)/python tests/sanitize.py

check-threads check-arm:
	$(MAKE) -C tests/native $@

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/pip $(SOURCES)
	$(BIN)/pip install -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

# Weights of the learned matchers, once: 118 MB into the user's cache. Without them cameras are found with SIFT alone.
$(VENV)/matchers: | $(VENV)/installed
	@if $(BIN)/sparse3d models fetch matchers >/dev/null; then touch $@; \
	else echo "warning: going on without the learned matchers; the next make tries again"; fi

clean:
	rm -rf $(VENV) build out
