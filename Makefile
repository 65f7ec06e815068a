# make check   style, types and unit tests, with no services: before each commit
# make test    installs what is missing, then checks style and types and runs every test
# make soak    installs more (Slurm, Open MPI, an ssh server), then runs every test on every engine, with SEED and at most MINUTES
# make demo    installs what is missing, then locks, syncs, runs and checks demo/kimage.py

export KLOCK_TEST_CACHE ?= /var/tmp/klock-test-cache
CORES := $(shell nproc)
JOBS ?= $(shell expr $(CORES) + 4)
SEED ?= $(shell date +%s)
export SEED
MINUTES ?= 120
PYTEST = .venv/bin/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -rs

.PHONY: check units test tests soak demo style clean

check:
	@.ci/prepare check
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target style units

# One process a core and one more, for some tests wait. Each has a part of the files, by size. (xdist's would each import
# all of them, a quarter of the time.)
units:
	@seq 0 $(CORES) | xargs --max-procs 0 -I {} sh -c '.venv/bin/pytest -rs $$(ls -S tests/test_*.py | awk "NR % ($(CORES) + 1) == {}")'

test:
	@.ci/prepare test
# Two images that tests start from are made meanwhile; what needs one waits for it.
	@.venv/bin/python -m tests.integration.debian_image & images=$$!; \
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target style units && $(MAKE) --no-print-directory tests; \
	status=$$?; wait $$images && exit $$status

tests:
	$(PYTEST) $(or $(TESTS),tests/integration)

soak:
	@.ci/prepare soak
	@echo "SEED=$(SEED) MINUTES=$(MINUTES)"
	timeout --signal=INT $(MINUTES)m $(PYTEST) -m "soak or not soak" --hypothesis-profile=soak --hypothesis-seed=$(SEED) $(TESTS)

style:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

demo:
	@.ci/prepare demo
	@demo/run

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
