# Every target sets itself up: it makes .venv, installs requirements.lock and this package into it, and goes on.
# On Linux the default build of torch wants CUDA libraries that the lock leaves out; where torch does not import without
# them, set-up lets pip add the ones torch itself pins. PIP_EXTRA_INDEX_URL can point pip at torch's CPU builds instead.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo serve test eval train lint format bench parity codecs suites lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "memkv needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps -r requirements.lock
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	$(BIN)/memkv demo

# The page, the OpenAI protocol and the memory API; prints the address.
serve: $(READY)
	$(BIN)/memkv serve $(ARGS)

# Two processes with one thread each: tiny models gain nothing from more.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(ARGS)

# Every memory system on a few scenarios; a table, and build/eval/quick/report.html.
eval: $(READY)
	$(BIN)/python -m eval.run --config configs/quick.yaml $(ARGS)

# The compaction policy: warm start, then reinforcement; hours, resumable. Writes build/train/policy (train/README.md).
train: $(READY)
	$(BIN)/python -m train.sft --config configs/policy.yaml
	$(BIN)/python -m train.grpo --config configs/policy.yaml

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) .venv-peers/.ready
	$(BIN)/python -m eval.bench $(ARGS)

# llama.cpp, to compare with: compiled from source, about six minutes, once.
.venv-peers/.ready: eval/bench/peers.lock
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --disable-pip-version-check --quiet --no-deps -r eval/bench/peers.lock
	@touch $@

# Kept positions beside kvpress', in a virtual environment of its own; writes eval/parity/RESULTS.md.
parity: $(READY)
	$(BIN)/python -m eval.parity.kvpress_parity $(ARGS)

# Bytes, perplexity and rule probes of every codec on the embedded model; writes eval/CODECS.md.
codecs: $(READY)
	$(BIN)/python -m eval.codec_table $(ARGS)

# RULER through lm-eval's generators, in a virtual environment of its own, and the tests that need it.
suites: .venv-suites/.ready
	.venv-suites/bin/python -m pytest -q tests/eval/test_ruler.py tests/eval/test_longbench.py tests/eval/test_suites.py
	.venv-suites/bin/python -m eval.suites --suite ruler $(ARGS)

.venv-suites/.ready: requirements.lock eval/suites/suites.lock
	$(PYTHON) -m venv .venv-suites
	.venv-suites/bin/pip install --disable-pip-version-check --quiet --no-deps -r requirements.lock -r eval/suites/suites.lock
	.venv-suites/bin/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Resolves the newest versions in a fresh environment and writes requirements.lock again.
lock:
	bash .ci/lock.sh

clean:
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
