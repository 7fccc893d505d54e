# Every target sets up what it needs in .venv first; the first time, installing torch takes some minutes.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test snapshots wheel chaos zoo bench accuracy docs site

demo: .venv/demo.stamp
	$(BIN)/prunus demo

test: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --quiet --hypothesis-profile ci

# What tests compare with is written anew: look at the difference before it is committed.
snapshots: .venv/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest --quiet --update

wheel: .venv/test.stamp
	$(BIN)/python tests/wheel.py

chaos: .venv/test.stamp
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m chaos --jobs 2

zoo: .venv/zoo-packages.stamp
	$(BIN)/python tests/zoo.py

bench: .venv/bench.stamp
	$(BIN)/python benchmarks/speed.py

accuracy: .venv/bench.stamp
	$(BIN)/python benchmarks/accuracy.py

docs: .venv/test.stamp
	$(BIN)/python docs/generate.py

site: .venv/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# One stamp for each group of optional dependencies in pyproject.toml.
# The link gives mypy the package by its name, since the repository root is the package.
.venv/%.stamp: pyproject.toml | $(BIN)/pip
	@echo "Installing prunus[$*] into .venv; with torch this can take a few minutes ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$*]"
	mkdir -p .venv/src && ln -sfn ../.. .venv/src/prunus
	touch $@

$(BIN)/pip:
	$(PYTHON) -m venv .venv
