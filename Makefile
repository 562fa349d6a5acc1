# make demo and make test set up everything they need; PYTHON chooses the interpreter that makes the environment.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv demo test lint
venv: .venv/done

.venv/done: requirements.txt requirements-synthetic.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt -r requirements-synthetic.txt
	touch $@

test: venv
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

demo: venv
	$(BIN)/python demo.py
