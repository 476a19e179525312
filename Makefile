# `make demo` and `make test` do all the set-up themselves, into .venv.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2  # processes that share the tests; each takes a core and up to 2 GB
TESTED = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# cityscapesscripts asks for a package of 2020 that hides Python's own `typing` where site-packages come first.
WITHOUT_TYPING = $(BIN)/pip uninstall --quiet --yes typing

.PHONY: demo demos test fast slow arms cluster lint reports docs bench speed calibration campaign fuzz clean

demo: .venv/.installed
	$(BIN)/ablate run studies/fusion_count.yaml

demos: .venv/.installed
	failed=; for study in studies/*.yaml; do $(BIN)/ablate run $$study --scale demo || failed="$$failed $$study"; done; \
		test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

test: .venv/.test-installed lint fast

fast: .venv/.test-installed
	$(TESTED) -m "not slow and not cluster and not gpu"

slow: .venv/.test-installed
	$(TESTED) -m "slow and not cluster and not gpu"

arms: .venv/.test-installed
	$(TESTED) -m "slow and not gpu" tests/test_shipped_arms.py

cluster: .venv/.test-installed
	$(BIN)/python -m pytest -m "cluster and not gpu"

lint: .venv/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reports: .venv/.installed
	for folder in $(dir $(wildcard reports/*/report.md)); do study=$${folder}study.yaml; \
		test -f $$study || study=studies/$$(basename $$folder).yaml; \
		$(BIN)/ablate report $$study --scale laptop --results $${folder}results --to $$folder || exit 1; done
	$(BIN)/python reports/index.py

docs: .venv/.test-installed
	$(BIN)/python -m sphinx -q -n -W --keep-going docs docs/_build

fuzz: .venv/.test-installed
	$(BIN)/python tests/fuzz/fuzzing.py --inputs 100000

bench: .venv/.bench-installed
	$(BIN)/python tests/bench/all.py

speed: .venv/.bench-installed
	$(BIN)/python tests/bench/all.py --write

calibration: .venv/.test-installed
	PYTHONPATH=.:tests $(BIN)/python -m calibration

campaign: .venv/.test-installed
	PYTHONPATH=.:tests $(BIN)/python -m campaign

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	$(WITHOUT_TYPING)
	touch $@

.venv/.test-installed: .venv/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,docs]"
	$(WITHOUT_TYPING)
	touch $@

.venv/.bench-installed: .venv/.test-installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	touch $@

clean:
	rm -rf .venv
