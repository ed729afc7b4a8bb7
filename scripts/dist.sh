#!/usr/bin/env bash
# Builds one optimised, stripped, statically linked binary with its man pages and completions.
set -euo pipefail
. "$(dirname "$0")/env.sh"
use_rust
target=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')
# The flags hold for the target only if it is named; build scripts stay dynamic. A position independent
# program would relocate 76 kB of tables in every process, and no two would share them.
RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" cargo build --quiet --locked --profile dist --target "$host" --package plumb-cli
binary=$target/$host/dist/plumb
out=$target/dist
rm -rf "$out"
mkdir -p "$out/man" "$out/completions"
install -m 755 "$binary" "$out/plumb"
"$out/plumb" man "$out/man"
for shell in bash zsh fish; do "$out/plumb" completions "$shell" >"$out/completions/plumb.$shell"; done
version=$("$out/plumb" --version | cut -d' ' -f2)
cp LICENSE* README.md CHANGELOG.md "$out"
tar -C "$out" -czf "$target/plumb-$version-$host.tar.gz" --owner=0 --group=0 --transform "s,^\.,plumb-$version," .
ls -l "$out/plumb" "$target/plumb-$version-$host.tar.gz"
