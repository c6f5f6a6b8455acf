# Every target does its own set-up, from a fresh clone with plain python3 and pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
KERNEL := dicom2cache/pixels/_kernel.c dicom2cache/headers/_scan.c
# Into the environment whose .ready is made.
INSTALL = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check

# Sources that each process compiles anew are a start-up that no user has.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

$(READY): pyproject.toml constraints.txt dicom2cache/__init__.py $(KERNEL)
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e '.[train,dev]'
	$(@D)/bin/python -m tests.house.kernel
	@# Where PYTHONDONTWRITEBYTECODE is set each of the many processes of the tests would compile anew.
	$(@D)/bin/python -m compileall -q dicom2cache trainer_adapter tests
	touch $@

# Without what only tests need, unless that is there already: half of the time of a first run.
SHOWN := $(if $(wildcard $(READY)),$(READY),.venv/.shown)

.venv/.shown: pyproject.toml constraints.txt dicom2cache/__init__.py $(KERNEL)
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e '.[train]'
	touch $@

.PHONY: demo
demo: $(SHOWN)  ## convert real sample files, show them, train from them
	$(BIN)/python -m docs.demo

SITE := .venv-docs/.ready

$(SITE): docs/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -r docs/requirements.txt
	touch $@

.PHONY: docs
docs: $(SITE)  ## the pages as a site in build/site; warnings are errors, all links are followed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict
	$(PYTHON) -m tests.site

.PHONY: pictures
pictures: $(READY)  ## draw the pictures of docs/ anew, from caches
	$(BIN)/python -m docs.draw_stacks
	$(BIN)/python -m docs.draw_masks

.PHONY: check
check: $(READY)  ## ruff, mypy, the floors of the house, links of its pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.house.kernel
	$(BIN)/python -m pytest tests/house/test_house.py

.PHONY: test
test: $(READY)  ## all tests, by PROCESSES=3
	$(BIN)/python -m pytest tests --numprocesses $(or $(PROCESSES),3) --dist worksteal

.PHONY: test-newest
test-newest:  ## the tests on Python 3.12 or later, newest versions of all; NEWEST="--debian --pinned" for its options
	$(PYTHON) -m tests.newest $(NEWEST)

.PHONY: test-more
test-more: $(READY)  ## tests that take a share of what they could, ten times as much: each step, more damage
	TEST_TIMES=10 $(BIN)/python -m pytest --numprocesses $(or $(PROCESSES),3) --dist worksteal \
		tests/running tests/headers tests/trainer/test_hostile.py tests/trainer/test_compressed.py \
		tests/whole/test_legal_files.py

.PHONY: test-portable
test-portable: $(READY)  ## the core's tests without what macOS and Windows lack; by PROCESSES=3
	FAULT=bare PYTHONPATH=tests/support/hooks $(BIN)/python -m pytest --numprocesses $(or $(PROCESSES),3) \
		--dist worksteal tests/frames tests/headers tests/pixels tests/planning tests/sources \
		tests/store tests/trainer tests/waveforms tests/whole tests/running/test_update.py \
		tests/running/test_verify.py tests/running/test_repair.py tests/running/test_remove.py

.PHONY: test-crash
test-crash: $(READY)  ## kills, disks that fail, power cuts (root), Ctrl-C; KIND=kills COUNT=9 SEED=2 for some
	$(BIN)/python -m tests.crash $(KIND) $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

ORACLES := .venv-oracles/.ready

$(ORACLES): pyproject.toml $(KERNEL) constraints.txt tests/oracles/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e . -r tests/oracles/requirements.txt
	touch $@

.PHONY: test-oracles
test-oracles: $(ORACLES)  ## values, volumes, structures against SimpleITK, DCMTK, highdicom, dcm2niix, plastimatch; DIR=your files
	.venv-oracles/bin/python -m tests.oracles $(DIR); values=$$?; \
	.venv-oracles/bin/python -m tests.oracles.volumes $(DIR) && exit $$values
	$(if $(DIR),,.venv-oracles/bin/python -m tests.oracles.faults)
	$(if $(DIR),,.venv-oracles/bin/python -m tests.oracles.tiles)
	$(if $(DIR),,.venv-oracles/bin/python -m tests.oracles.structures)
	$(if $(DIR),,.venv-oracles/bin/python -m tests.oracles.conversions)
	$(if $(DIR),,.venv-oracles/bin/python -m tests.oracles.waveforms)

.PHONY: test-codestreams
test-codestreams: $(ORACLES)  ## damaged codestreams: what we see of them, and djpeg, DCMTK, GDCM, OpenJPEG
	.venv-oracles/bin/python -m tests.oracles.damaged

.PHONY: test-kernel
test-kernel: $(READY)  ## the compiled loops under AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/python -m tests.pixels.sanitized

LIGHTLY := .venv-lightly/.ready

$(LIGHTLY): pyproject.toml $(KERNEL) tests/lightly/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -e . -r tests/lightly/requirements.txt
	touch $@

.PHONY: test-lightly
test-lightly: $(LIGHTLY)  ## LightlyTrain itself: trained from caches; and its loader on docs/pixels.md
	.venv-lightly/bin/python -m tests.pixels.lightlytrain
	.venv-lightly/bin/python -m pytest tests/lightly --disable-warnings

.PHONY: test-hostile
test-hostile: $(READY)  ## 10,000 mutants and bombs by name through builds, flipped bits and hostile roots; MUTANTS=, SEED=
	$(BIN)/python -m tests.hostile $(if $(MUTANTS),--mutants $(MUTANTS)) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.running.flipped_bits --bits 2000
	$(BIN)/python -m tests.running.hostile_roots --every 10

FUZZ := .venv-fuzz/.ready

$(FUZZ): pyproject.toml $(KERNEL) constraints.txt tests/fuzz/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e '.[train]' -r tests/fuzz/requirements.txt
	touch $@

.PHONY: fuzz
fuzz: $(FUZZ)  ## hostile headers, frames, recipes, caches under atheris; TARGETS=, RUNS=, SECONDS=, SEED=
	.venv-fuzz/bin/python -W ignore -m tests.fuzz $(TARGETS) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

JUDGES := .venv-judges/.ready

$(JUDGES): pyproject.toml $(KERNEL) constraints.txt tests/peers/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e . -r tests/peers/requirements.txt
	touch $@

.PHONY: test-peers
test-peers: $(JUDGES)  ## splits, volumes and recipes with scikit-learn, MONAI, torchio, Lightning, transformers, napari
	.venv-judges/bin/python -m pytest tests/peers --disable-warnings

.PHONY: test-exfat
test-exfat: $(READY)  ## two builds at once without hard links; as root, which mounts an exFAT
	$(BIN)/python -m tests.running.exfat

.PHONY: test-slurm
test-slurm: $(READY)  ## the batch script on a real Slurm of two nodes; as root, which installs it by apt
	$(BIN)/python -m pytest tests/slurm

.PHONY: test-report
test-report: $(READY)  ## the report in a headless Chromium; as root, which installs it by apt; SHOTS=folder
	$(BIN)/python -m pytest tests/browser

ENGINES := .venv-engines/.ready

$(ENGINES): pyproject.toml $(KERNEL) constraints.txt tests/engines/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e . -r tests/engines/requirements.txt
	touch $@

.PHONY: test-engines
test-engines: $(ENGINES)  ## builds on Dask: a scheduler and workers of their own, one killed, one late
	.venv-engines/bin/python -m pytest tests/engines --disable-warnings

DIST := .venv-dist/.ready

$(DIST): packaging/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -r packaging/requirements.txt
	touch $@

.PHONY: dist
dist: $(DIST)  ## sdists and wheels of both distributions, in dist/; takes a C compiler
	.venv-dist/bin/python packaging/dist.py

.venv-dist/.checkers: $(DIST) tests/packages/requirements.txt
	$(INSTALL) -r tests/packages/requirements.txt
	touch $@

.PHONY: test-dist
test-dist: $(READY) .venv-dist/.checkers dist  ## what make dist made, installed anew: converts, reads and trains; takes an index of packages
	$(BIN)/python -m pytest tests/packages

.PHONY: test-container
test-container: $(READY) dist  ## the Containerfile, built and tried; what apptainer.def runs; as root, with buildah, debootstrap
	$(BIN)/python -m tests.packages.container

# KEEP=1: figures go to benchmarks/results, of which docs/figures.md is made
KEPT = $(if $(KEEP),--keep)

.PHONY: bench-plan
bench-plan: $(READY)  ## plan and open 1,000,000 frames: time and memory
	$(BIN)/python -m benchmarks.planning $(KEPT)

PEERS := .venv-peers/.ready

$(PEERS): pyproject.toml $(KERNEL) constraints.txt benchmarks/read/peers/requirements.txt benchmarks/read/peers/alone.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e '.[train]' -r benchmarks/read/peers/requirements.txt
	$(INSTALL) --no-deps -r benchmarks/read/peers/alone.txt
	touch $@

.PHONY: bench-scale
bench-scale: $(READY)  ## 10,000 to 1,000,000 frames: plan on disk, a worker's start, commit, open; FILES=N real ones
	$(BIN)/python -m benchmarks.scale $(KEPT) $(if $(FILES),--files $(FILES))

.PHONY: bench-parts
bench-parts: $(READY)  ## two tasks of an array against one, JPEG 2000; FILES=N
	$(BIN)/python -m benchmarks.parts $(KEPT) $(if $(FILES),--files $(FILES))

.PHONY: bench-cores
bench-cores: $(READY)  ## 64 jobs by counting; builds with one job and with two: FILES=512 of JPEG 2000
	$(BIN)/python -m benchmarks.cores $(KEPT) $(if $(FILES),--files $(FILES))

.PHONY: bench-disk
bench-disk: $(READY)  ## what the disk takes of shards in one way and another, and ShardWriter
	$(BIN)/python -m benchmarks.disk $(KEPT)

.PHONY: bench-growing
bench-growing: $(READY)  ## an update that adds 1%, against its build; FILES=N
	$(BIN)/python -m benchmarks.growing $(KEPT) $(if $(FILES),--files $(FILES))

.PHONY: bench-archives
bench-archives: $(READY)  ## a build of a zip and of a tar against that of the folder; FILES=N
	$(BIN)/python -m benchmarks.archives $(KEPT) $(if $(FILES),--files $(FILES))

.PHONY: bench-read
bench-read: $(PEERS)  ## CacheLoader against its peers and memcpy; QUICK=1 for a short run, ONLY=ours without peers, TIMES=3
	.venv-peers/bin/python -m benchmarks.read $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)' $(KEPT)) \
		$(if $(TIMES),--times $(TIMES))

.PHONY: bench-convert
bench-convert: $(PEERS)  ## builds against their peers and the codecs alone; QUICK=1 for a short run
	.venv-peers/bin/python -m benchmarks.convert $(if $(QUICK),--quick)

.PHONY: bench-read-stock
bench-read-stock: $(READY)  ## FrameDataset and gather against one .npy map and memcpy
	$(BIN)/python -m benchmarks.read.stock $(KEPT)

HEADERS := .venv-headers/.ready

$(HEADERS): pyproject.toml $(KERNEL) benchmarks/read/peers/headers.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e . -r benchmarks/read/peers/headers.txt
	touch $@

.PHONY: bench-headers
bench-headers: $(HEADERS)  ## the header scan against pydicom and dicomsdl
	.venv-headers/bin/python -m benchmarks.headers $(KEPT)

.PHONY: bench-resample
bench-resample: $(ORACLES)  ## resampling: scipy, which it is done by, against SimpleITK
	.venv-oracles/bin/python -m benchmarks.resample

.PHONY: bench-volumes
bench-volumes: $(READY)  ## volume(), gather, stacks() and split(); QUICK=1 for a short run
	$(BIN)/python -m benchmarks.volumes $(KEPT) $(if $(QUICK),--quick)

VOLUMES := .venv-volumes/.ready

$(VOLUMES): pyproject.toml $(KERNEL) constraints.txt benchmarks/patches/requirements.txt benchmarks/patches/alone.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e '.[train]' -r benchmarks/patches/requirements.txt
	$(INSTALL) --no-deps -r benchmarks/patches/alone.txt
	touch $@

.PHONY: bench-patches
bench-patches: $(VOLUMES)  ## 3-D patches against memcpy, MONAI, torchio and nnU-Net; QUICK=1 for a short run
	.venv-volumes/bin/python -m benchmarks.patches $(KEPT) $(if $(QUICK),--quick)

CONTOURS := .venv-contours/.ready

$(CONTOURS): pyproject.toml $(KERNEL) constraints.txt benchmarks/contours/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(INSTALL) -c constraints.txt -e . -r benchmarks/contours/requirements.txt
	touch $@

.PHONY: bench-contours
bench-contours: $(CONTOURS)  ## structures to masks against rt-utils and dcmrtstruct2nii; QUICK=1 for a short run
	.venv-contours/bin/python -m benchmarks.contours $(KEPT) $(if $(QUICK),--quick)

.PHONY: bench-masks
bench-masks: $(READY)  ## (image, mask) batches against images alone; QUICK=1 for a short run
	$(BIN)/python -m benchmarks.masks $(KEPT) $(if $(QUICK),--quick)

.PHONY: bench-memory
bench-memory: $(READY)  ## peak memory of a converting worker
	$(BIN)/python -m benchmarks.memory $(KEPT)

.PHONY: bench-codecs
bench-codecs: $(READY)  ## codecs for caches: size, and speed of writing and reading
	$(BIN)/python -m benchmarks.codecs

.PHONY: bench-lightly
bench-lightly: $(LIGHTLY)  ## LightlyTrain's own loading of DICOM against a cache
	.venv-lightly/bin/python -m benchmarks.lightly --results benchmarks/results/lightly

.PHONY: clean
clean:  ## remove what the targets made, all virtual environments too
	rm -rf .venv .venv-oracles .venv-lightly .venv-peers .venv-headers .venv-engines .venv-fuzz \
		.venv-judges .venv-dist .venv-volumes .venv-contours .venv-docs demo build dist .pytest_cache \
		.mypy_cache .ruff_cache .hypothesis *.egg-info dicom2cache/pixels/*.so
