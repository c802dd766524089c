# `make demo` and `make test` each build .venv from requirements.txt first, where it is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint clean

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

demo: $(VENV)/installed
	$(BIN)/python launch.py --config experiments/brats_synth.py --config.train.steps=500 --workdir runs/demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long"

test-all: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf $(VENV) runs
