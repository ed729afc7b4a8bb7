#!/usr/bin/env bash
# Builds what is measured (the binary of `make dist`) and measures it; options go to plumb-bench.
set -euo pipefail
. "$(dirname "$0")/env.sh"
use_rust
scripts/dist.sh >&2
cargo build --quiet --locked --release --package plumb-bench --bin plumb-bench
exec "${CARGO_TARGET_DIR:-target}/release/plumb-bench" --plumb "${CARGO_TARGET_DIR:-target}/dist/plumb" "$@"
