#!/usr/bin/env bash
# Builds plumb and traces through a simulated MPLS provider network with real packets.
set -euo pipefail
. "$(dirname "$0")/env.sh"
use_rust
say "building plumb (the first time takes a few minutes)"
quiet=--quiet
[ ! -t 2 ] || quiet=
cargo build $quiet --locked --release --package plumb-cli
plumb=${CARGO_TARGET_DIR:-target}/release/plumb
as_root=
# A private network takes a user namespace and /dev/net/tun; where the kernel keeps them from users,
# it takes root.
if [ "$(id -u)" != 0 ] && ! "$plumb" lab run plain -- true 2>/dev/null; then
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        as_root=sudo
    fi
fi
say "\$ plumb lab run mixed -- plumb trace 5.0.18.2"
exec $as_root "$plumb" lab run mixed -- "$plumb" trace 5.0.18.2
