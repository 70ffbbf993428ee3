# make demo         build .venv, transcribe examples/demo.wav with the model that comes with the project
# make test         the users' tests: no torch, no network but the package index
# make test-oracle  compare live with openai-whisper, transformers and onnxruntime (torch CPU, an environment of its own)
# make check        lint and types
# EXTRA=cpu|cuda12|cuda13 chooses the MLX backend on Linux (a Mac needs none)

PYTHON ?= python3
ifeq ($(shell uname -s),Linux)
  EXTRA ?= cpu
endif
INSTALL = -e .$(if $(EXTRA),[$(EXTRA)])
PIP = -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-oracle check clean

demo: .venv/installed
	.venv/bin/whisperx examples/demo.wav --model examples/demo-model --align_model examples/demo-aligner --backend mlx \
	  --batch_size 8 --output_dir out
	@echo; echo "when the first words are said (all: out/demo.json):"
	@.venv/bin/python examples/print_words.py out/demo.json 8

test: .venv/installed
	.venv/bin/python -m pytest

test-oracle: .venv-oracle/installed
	.venv-oracle/bin/python -m pytest --override-ini addopts=-ra --override-ini filterwarnings=default tests/oracle

check: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) --upgrade "pip>=25.1"
	.venv/bin/python $(PIP) $(INSTALL) --group dev
	touch $@

.venv-oracle/installed: pyproject.toml
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python $(PIP) --upgrade "pip>=25.1"
	.venv-oracle/bin/python $(PIP) $(INSTALL) --group dev --group oracle
	touch $@

clean:
	rm -rf .venv .venv-oracle out build dist
