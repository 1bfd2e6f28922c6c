VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test lint

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt torch torchvision
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(READY)
	HF_HUB_OFFLINE=1 $(VENV)/bin/mmkd demo

test: lint
	HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -q -n 2 --dist loadfile --durations 15

lint: $(READY)
	$(VENV)/bin/ruff check mmkd_cli tests examples
	$(VENV)/bin/ruff format --check mmkd_cli tests examples
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports
