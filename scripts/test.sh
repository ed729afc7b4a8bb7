#!/usr/bin/env bash
# Everything that CI runs, fast gates first; stops at the first that fails.
#   scripts/test.sh          all gates
#   scripts/test.sh GATE...  these only
set -uo pipefail
. "$(dirname "$0")/env.sh"
use_rust || { say "Rust $(rust_wanted) or later is missing: run scripts/setup.sh test"; exit 1; }

all=(fmt typos clippy direction unused licences no-std tests doctests doc readme)

fmt() { cargo fmt --all --check && cargo fmt --manifest-path fuzz/search/Cargo.toml --check; }
typos_gate() {
    command -v typos >/dev/null || { left_out "typos is not installed"; return; }
    typos
}
clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
direction() { cargo xtask direction; }
unused() { cargo xtask unused; }
licences() { cargo xtask licences; }
no_std() { cargo xtask no-std; }
tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --workspace --no-fail-fast
    else
        say "cargo-nextest is not installed: cargo test runs the same tests"
        cargo test --locked --workspace --lib --bins --tests --no-fail-fast
    fi
}
doctests() { cargo test --locked --workspace --doc; }
doc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items; }
readme() { cargo xtask readme; }

left_out() { reason=$1; }

# Runs one gate and prints one line about it. What the tests say is shown as it comes, what other
# gates say only if they fail.
gate() {
    local name=$1 function=${1//-/_} log began status=0 took
    [ "$name" = typos ] && function=typos_gate
    log=$(mktemp)
    reason=
    began=$(date +%s%N)
    if [ "$name" = tests ]; then
        "$function" 2>&1 </dev/null | tee "$log" || status=$?
        summary=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^ *Summary \[|^test result:' | awk '/Summary/ {print; next} {for (i = 4; i < NF; i += 1) if ($(i + 1) ~ /^(passed|failed|ignored);/) n[$(i + 1)] += $i} END {for (k in n) printf "%d %s ", n[k], k}')
    else
        "$function" >"$log" 2>&1 </dev/null || status=$?
        [ $status = 0 ] || cat "$log"
    fi
    took=$((($(date +%s%N) - began) / 100000000))
    rm -f "$log"
    printf '%-4s %-10s %4d.%d s  %s\n' "$([ $status = 0 ] && echo ok || echo FAIL)" "$name" $((took / 10)) $((took % 10)) "${reason:+left out: $reason}"
    return $status
}

failed=()
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
    gate "$name" || failed+=("$name")
    # A later gate says little where an early one has failed, but tests are worth their time.
    [ ${#failed[@]} -gt 0 ] && [ "$name" = clippy ] && break
done
if [ ${#failed[@]} -gt 0 ]; then
    say "failed: ${failed[*]}"
    exit 1
fi
[ -z "${summary:-}" ] || printf 'tests: %s\n' "$summary"
