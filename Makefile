# make train | test | lint | docs | bench, each with ARGS="..." for more arguments. The first call builds .venv.
PYTHON ?= python3
ARGS ?=
INSTALLED := .venv/.installed

.PHONY: train test lint docs bench

train: $(INSTALLED)
	.venv/bin/molrl train task=qed algo=rgdm $(ARGS)

# One thread in each of two processes: sums in another order would move the last digits, and threads fight over the cores.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 .venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(INSTALLED)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/pyright --warnings
	.venv/bin/yamllint --strict .
	.venv/bin/codespell molrl models rewards data conf tests benchmarks docs *.md *.toml *.yml *.cff

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict $(ARGS)

bench: $(INSTALLED)
	.venv/bin/python benchmarks/networks.py $(ARGS)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "molrl needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	"Name another: make PYTHON=python3.12" >&2; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt setuptools
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,all,docs]'
	@touch $@
