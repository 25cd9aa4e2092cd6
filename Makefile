# `make` alone lists the targets. All of them run in .venv, made from requirements.lock.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## make .venv (PYTHON=... to choose the interpreter: 3.11, 3.12 or 3.13)

# First setuptools, so that the one package without a wheel is built with the locked one.
$(INSTALLED): requirements.lock
	@fits='import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; \
	for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do \
	  if $$python -c "$$fits" 2>/dev/null; then [ ! -L .venv ] || rm .venv; exec $$python -m venv --clear .venv; fi; \
	done; echo 'make setup needs Python 3.11, 3.12 or 3.13 with venv: make setup PYTHON=...' >&2; exit 1
	sed -n '/^setuptools==/,/[^\\]$$/p' $< | $(BIN)/pip install -qq --require-hashes -r /dev/stdin
	@echo 'installing the locked packages, which takes some minutes' >&2
	$(BIN)/pip install -qq --no-compile --require-hashes --no-build-isolation -r $<
	$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## train four nets at two rates on the digits and judge the claims: three minutes or more, no data needed
	$(BIN)/python -m src.train -m data=digits scale=smoke model.depth=11 max_steps=200 seed=0,1,2 \
	  model=vgg,vgg_bn,vgg_noisy,vgg_plain_noisy optim.lr=0.1,0.5 probes=paper "probes.metrics=[euclidean,relative]" \
	  noise.passes=1 runs_dir=demo/runs $(ARGS)
	$(BIN)/python -m src.report demo/runs --out demo/report --logger none

test: setup ## run the tests (ARGS="-k shift" for some)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -rfEs $(ARGS)

faults: setup ## inject faults by the hundred and write docs/faults.md (KILLS=10 a kind of file, not 50)
	OMP_NUM_THREADS=1 FAULTS_TABLE=docs/faults.md FAULTS_KILLS=$(or $(KILLS),50) $(BIN)/pytest -n auto --dist worksteal -o timeout=3000 tests/faults tests/end_to_end/test_resume.py $(ARGS)

lint: setup ## check style, types and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: setup ## ask whether a locked package has a known vulnerability
	$(BIN)/python .ci/audit.py

bench: setup ## time steps, noise, loader, probes, start, memory; writes bench.json
	GOMP_SPINCOUNT=10000 $(BIN)/python -m bench $(ARGS) # as src.train sets it for itself

sweep: setup ## run a named sweep: SWEEP=fig2_noise [SEEDS=0,1,2 SCALE=paper LAUNCHER=local JOBS=2, or LAUNCHER=slurm PARTITION=gpu JOBS=16]
	$(BIN)/python -m src.train -m +sweeps=$(or $(SWEEP),$(error make sweep SWEEP=NAME, one of: $(basename $(notdir $(wildcard sweeps/*.yaml))))) \
	  $(if $(SEEDS),seed=$(SEEDS)) $(if $(SCALE),scale=$(SCALE)) $(if $(LAUNCHER),hydra/launcher=$(LAUNCHER)) \
	  $(if $(PARTITION),hydra.launcher.partition=$(PARTITION)) \
	  $(if $(JOBS),hydra.launcher.$(if $(filter local,$(LAUNCHER)),jobs,array_parallelism)=$(JOBS)) $(ARGS)

sweeps: ## list the named sweeps, each with the command of our runs
	@awk 'FNR == 1 {about = 1; next} /^# [A-Z][a-z]*: / {if (about) print ""; about = 0} \
	  about {sub(/^# */, ""); printf "%s ", $$0} sub(/^# (Command|Besides): /, "    ")' sweeps/*.yaml

status: setup ## how far the sweeps are, and the command that finishes them: RUNS=runs (ARGS=--watch to go on looking)
	$(BIN)/python -m src.status $(or $(RUNS),runs) $(ARGS)

report: setup ## judge the claims and draw the figures: RUNS=runs OUT=report
	$(BIN)/python -m src.report $(or $(RUNS),runs) --out $(or $(OUT),report) $(ARGS)

results: setup ## take runs that have ended into docs/results, make its page and the README's verdicts again: RUNS="runs more/runs"
	$(BIN)/python -m src.results $(or $(RUNS),$(wildcard runs)) $(ARGS)

wandb-sync: setup ## upload to W&B what is not there yet: RUNS=runs
	$(BIN)/python -m src.sync $(or $(RUNS),runs) $(ARGS)

lock: setup ## renew requirements.lock from pyproject.toml (ARGS="--upgrade" for newer versions)
	$(BIN)/uv pip compile pyproject.toml --group dev --extra slurm --extra dashboard --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --custom-compile-command 'make lock' -q $(ARGS) -o requirements.lock

.PHONY: help setup demo test faults lint audit bench sweep sweeps status report results wandb-sync lock
