# What a newcomer types. Each target installs what it needs and is safe to repeat.
SHELL := /bin/bash
.PHONY: help run test lint bench dist

help:
	@echo 'make run     build, then trace through a simulated MPLS network with real packets'
	@echo 'make test    everything that CI runs'
	@echo 'make lint    only format, lints and spelling'
	@echo 'make bench   measure beside scamper; writes bench/out'
	@echo 'make dist    one optimised, stripped binary in target/dist'

run:
	@scripts/setup.sh run
	@scripts/run.sh

test:
	@scripts/setup.sh test
	@scripts/test.sh

lint:
	@scripts/setup.sh lint
	@scripts/test.sh fmt typos clippy direction unused licences

bench:
	@scripts/setup.sh bench
	@scripts/bench.sh $(BENCH)

dist:
	@scripts/setup.sh dist
	@scripts/dist.sh
