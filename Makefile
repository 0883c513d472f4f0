# make demo    open the page in a browser; the first run creates .venv and installs what it needs
# make course  open the course in a browser: ten chapters on diffusion segmentation
# make notebooks  build the notebooks of the course from scripts/notebooks
# make web     build the page that runs in the browser into web/dist and serve it; needs Node.js 20
# make test-fast    run the tests that are neither slow nor need a browser; the default while developing
# make test    run all tests; ARGS=tests/test_structure.py runs some
# make fuzz     read mutated files of every format; COUNT=50000 MINUTES_OF_FUZZ=60: more of them
# make check   run the linters; make fix repairs what ruff can repair
# make results CHECKPOINT=NAME DATA=FOLDER      evaluate a checkpoint, write its model card and the tables of docs/results.md;
#              GRID="5x10 1x10" evaluates only these settings (GRID=1x0 for a plain U-Net)
# make bench   measure speed and memory beside other networks, into docs/speed.md; ARGS=--quick for a trial
# make train CHECKPOINT=polyp-v2 DATA=FOLDER    train a checkpoint by recipes/NAME.toml into runs/NAME; run again to continue
# make compare TASK=skin-lesion DATA=FOLDER MINUTES=60 [BASELINES="unet@256 lucidrains@64"]      train other networks, each
#              for the same CPU time, and score them like ours, into docs/results.md; run again to continue
# make ablations TASK=skin-lesion DATA=FOLDER MINUTES=30 [VARIANTS="v2 v2-no-anchor" SEEDS=3 SIZE=128]      leave components out
# make space SPACE=owner/name [KIND=page|course|static HARDWARE=cpu-basic|zero-a10g]      publish on the Hugging Face Hub as a Space;
#              DRY=FOLDER writes the files there and uploads nothing
# make hub OWNER=name [CHECKPOINT="NAME ..."]      publish checkpoints as model repositories; DRY=FOLDER as above
# make domain DATA=FOLDER      fit the domain check on the train images of every task, measure it, into docs/domain.md
#
# Variables: PYTHON=python3.12 (the interpreter, 3.11 or newer), TORCH_INDEX=URL (package index for torch), TORCH=2.13.0 (its
# version), VENV=.venv (folder), ARGS="..." (passed to app.py or pytest), WORKERS=2 (test processes).

VENV  ?= .venv
TORCH ?= 2.13.0
WORKERS ?= 2
PY    := $(VENV)/bin/python
PIP   := $(PY) -m pip --disable-pip-version-check --no-input

CPU_INDEX := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help demo course notebooks web test test-fast check fix browser fuzz train results bench compare ablations domain space hub

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/demo.stamp
	@$(PY) app.py $(ARGS)

course: $(VENV)/demo.stamp
	@OMP_WAIT_POLICY=PASSIVE MALLOC_ARENA_MAX=2 $(PY) -m streamlit run app.py $(ARGS)

notebooks: $(VENV)/dev.stamp
	@$(PY) -m scripts.build_notebooks

web: $(VENV)/dev.stamp
	@$(PY) web/build.py --serve $(ARGS)

test: $(VENV)/dev.stamp browser
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-fast: $(VENV)/dev.stamp
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not browser" $(ARGS)

# Mutated files of every format, read as a server does; nothing may end the process that reads them.
COUNT ?= 2000
MINUTES_OF_FUZZ ?= 10
fuzz: $(VENV)/dev.stamp
	@$(PY) -m scripts.fuzz --count $(COUNT) --minutes $(MINUTES_OF_FUZZ) $(ARGS)

check: $(VENV)/dev.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m basedpyright --pythonpath $(PY)
	$(VENV)/bin/lint-imports --no-cache

fix: $(VENV)/dev.stamp
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

train: $(VENV)/dev.stamp
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m medsegdiff train --recipe recipes/$(CHECKPOINT).toml --data $(DATA) --out runs/$(CHECKPOINT) \
	    $(if $(wildcard $(addprefix runs/$(CHECKPOINT)/,state.safetensors stage-1/state.safetensors)),--resume) $(ARGS)

# Settings to evaluate, MEMBERSxSTEPS, each into results/CHECKPOINT/MEMBERSxSTEPS.json. For V2 also anchor.json (anchor only);
# "-half" means anchor weight 0.5 instead of the checkpoint's, "-staple" fused by STAPLE where that is not the checkpoint's rule.
GRID ?= 5x10 5x10-staple 1x10 5x1 5x2 5x5 5x50
OUT   = results/$(CHECKPOINT)

results: $(VENV)/dev.stamp
	@mkdir -p $(OUT)
	-$(PY) -m medsegdiff evaluate --checkpoint $(CHECKPOINT) --data $(DATA) --anchor --overwrite --json $(OUT)/anchor.json
	@for run in $(GRID); do \
	    weight=; rule=auto; case $$run in *-half) [ -e $(OUT)/anchor.json ] || continue; weight="--anchor-weight 0.5";; \
	        *-staple) grep -q '"fuse": "anchored"' checkpoints/$(CHECKPOINT)/config.json || continue; rule=staple;; esac; grid=$${run%%-*}; \
	    $(PY) -m medsegdiff evaluate --checkpoint $(CHECKPOINT) --data $(DATA) --overwrite --json $(OUT)/$$run.json \
	        --members $${grid%x*} --steps $${grid#*x} $$weight --fuse $$rule || exit 1; done
	$(PY) -m medsegdiff card checkpoints/$(CHECKPOINT) --readme docs/results.md --summary docs/results.md --results $(OUT)

# Another implementation of V1, installed without its logging service.
LUCIDRAINS = $(PY) -c 'import einops, med_seg_diff_pytorch' 2>/dev/null || \
    $(PIP) install --quiet --no-deps med-seg-diff-pytorch==0.3.3 einops

bench: $(VENV)/dev.stamp
	@$(LUCIDRAINS)
	@$(PY) -m benchmarks --readme docs/speed.md $(ARGS)

compare: $(VENV)/dev.stamp
	@$(LUCIDRAINS)
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m benchmarks.compare $(TASK) --readme docs/results.md --overview docs/results.md $(if $(DATA),--data $(DATA)) \
	    $(if $(MINUTES),--minutes $(MINUTES)) $(if $(BASELINES),--baselines $(BASELINES)) $(ARGS)

ablations: $(VENV)/dev.stamp
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m benchmarks.ablations $(TASK) $(if $(DATA),--data $(DATA)) \
	    $(if $(MINUTES),--minutes $(MINUTES)) $(if $(VARIANTS),--variants $(VARIANTS)) $(if $(SEEDS),--seeds $(SEEDS)) \
	    $(if $(SIZE),--size $(SIZE)) $(ARGS)

# DATA holds a folder for each task.
domain: $(VENV)/dev.stamp
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m benchmarks.domain fit $(DATA) $(ARGS)
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m benchmarks.domain measure $(DATA)

KIND ?= page
HARDWARE ?= cpu-basic
DRYLY = $(if $(DRY),--dry $(DRY)) $(ARGS)

space: $(VENV)/demo.stamp
	@$(PY) -m scripts.deploy space $(if $(SPACE),--space $(SPACE)) --kind $(KIND) --hardware $(HARDWARE) $(DRYLY)

hub: $(VENV)/demo.stamp
	@$(PY) -m scripts.deploy hub --owner $(or $(OWNER),$(error name the account: make hub OWNER=name)) \
	    $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(DRYLY)

# Torch is installed first, because its default wheel on Linux contains gigabytes of CUDA libraries. Without an NVIDIA GPU the
# wheel comes from PyTorch's CPU index, or from pip's default index where that one cannot be reached.
$(VENV)/torch.stamp:
	@for p in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$p && break; \
	done; \
	test -n "$$found" || { echo "No Python 3.11 or newer among: $(or $(PYTHON),python3 ...);" \
	    "install one, or name it with PYTHON=/path/to/python"; exit 1; }; \
	echo "Making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV) || { echo "python -m venv failed; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@index="$(TORCH_INDEX)"; \
	if [ -z "$$index" ] && [ "$$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1 && $(PY) -c \
	    'from urllib.request import urlopen; urlopen("$(CPU_INDEX)/torch/", timeout=5)' 2>/dev/null; \
	then index=$(CPU_INDEX); fi; \
	$(PIP) install "torch==$(TORCH)" $${index:+--index-url "$$index"}
	@touch $@

$(VENV)/demo.stamp: $(VENV)/torch.stamp requirements.txt
	$(PIP) install --quiet -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp pyproject.toml
	$(PIP) install --quiet --editable ".[app,train,export,dev]"
	@touch $@

# Browser tests use an installed Chromium or Chrome and are skipped without one.
browser:
	@if { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium for the browser tests"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	        chromium fonts-noto-cjk >/dev/null; } || echo "chromium could not be installed; the browser tests will skip"; \
	else echo "No chromium on PATH: the browser tests will skip. On Debian: sudo apt install chromium fonts-noto-cjk"; fi
