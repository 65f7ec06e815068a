# make test    installs what is missing, then checks style and types and runs every test
# make demo    installs what is missing, then locks, syncs, runs and checks demo/kimage.py

export KLOCK_TEST_CACHE ?= /var/tmp/klock-test-cache
JOBS ?= $(shell expr $$(nproc) + 2)

.PHONY: test demo clean

test:
	@.ci/prepare test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -rs $(TESTS)

demo:
	@.ci/prepare demo
	@demo/run

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
