# What a newcomer types. Each target installs what it needs and is safe to repeat.
SHELL := /bin/bash
.PHONY: help run test lint bench dist

help:
	@echo 'make run     build, then trace through a simulated MPLS network with real packets'
	@echo 'make test    everything that CI runs'
	@echo 'make lint    of that, what takes no tests'
	@echo 'make bench   measure beside scamper; writes bench/out'
	@echo 'make dist    one static binary in target/dist, and packed with man pages and completions'

run:
	@scripts/setup.sh run
	@scripts/run.sh

test:
	@scripts/setup.sh test
	@scripts/test.sh

lint:
	@scripts/setup.sh lint
	@scripts/test.sh fmt typos direction unused licences no-std clippy

bench:
	@scripts/setup.sh bench
	@scripts/bench.sh $(BENCH)

dist:
	@scripts/setup.sh dist
	@scripts/dist.sh
