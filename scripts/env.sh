# Sourced by the other scripts: finds the tools that are installed, installs nothing.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
[ -d .venv/bin ] && PATH=$PWD/.venv/bin:$PATH
export PATH

say() { printf '%s\n' "$*" >&2; }

# Rust that the workspace wants at least.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

# Says whether `COMMAND... --version` is a Rust tool of at least that version.
recent_enough() {
    local version
    version=$("$@" --version 2>/dev/null | sed -n 's/^[a-z]* \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && [ "$(printf '%s\n' "$(rust_wanted)" "$version" | sort -V | head -n 1)" = "$(rust_wanted)" ]
}

# Puts the first toolchain that is good enough in front, and returns 1 where there is none: the one
# in PATH, rustup's default one, any other that rustup has.
use_rust() {
    recent_enough cargo && recent_enough rustc && return 0
    local cargo_home=${CARGO_HOME:-$HOME/.cargo} toolchain
    [ -d "$cargo_home/bin" ] && PATH=$cargo_home/bin:$PATH
    recent_enough cargo && recent_enough rustc && return 0
    command -v rustup >/dev/null || return 1
    for toolchain in $(rustup toolchain list 2>/dev/null | sed -n 's/^\([^ ]*\).*/\1/p' | grep -v nightly); do
        if recent_enough rustup run "$toolchain" cargo; then
            export RUSTUP_TOOLCHAIN=$toolchain
            recent_enough cargo && return 0
        fi
    done
    unset RUSTUP_TOOLCHAIN
    return 1
}
