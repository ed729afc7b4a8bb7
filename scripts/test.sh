#!/usr/bin/env bash
# Everything that CI runs, fast gates first.
#   scripts/test.sh          all gates
#   scripts/test.sh GATE...  these only
set -uo pipefail
. "$(dirname "$0")/env.sh"
use_rust || { say "Rust $(rust_wanted) or later is missing: run scripts/setup.sh test"; exit 1; }

all=(fmt typos direction unused licences no-std clippy doc doctests readme tests)

fmt() {
    cargo fmt --all --check &&
        cargo fmt --manifest-path fuzz/search/Cargo.toml --check &&
        cargo fmt --manifest-path unikernel/image/Cargo.toml --check
}
typos() {
    type -P typos >/dev/null || { left_out "typos is not installed"; return; }
    command typos
}
direction() { cargo xtask direction; }
unused() { cargo xtask unused; }
licences() { cargo xtask licences; }
no-std() { cargo xtask no-std; }
clippy() {
    cargo clippy --locked --workspace --all-targets -- -D warnings &&
        cargo clippy --locked --manifest-path unikernel/image/Cargo.toml --target-dir target/unikernel/clippy -- -D warnings
}
doc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }
doctests() { cargo test --locked --workspace --doc; }
readme() {
    cargo xtask readme || return
    ! grep -q 'cannot run here$' "$log" || left_out "no raw sockets or labs for this user: see plumb doctor"
}
# Units, properties, simulated networks, fuzz corpora, and the real binary against real peers.
tests() {
    # Where nothing is missing, a test that skips itself has failed.
    [ -n "$(lacking)" ] || export TESTS_NO_SKIP=1
    # The same cases in every run; PROPTEST_RNG_SEED=N searches elsewhere.
    export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --workspace --no-fail-fast
    else
        say "cargo-nextest is not installed: cargo test runs the same tests"
        cargo test --locked --workspace --lib --bins --tests --no-fail-fast
    fi
}

# What this machine lacks for some tests, which are skipped then.
lacking() {
    local lacks=() peer
    [ "$(id -u)" = 0 ] || lacks+=("root")
    [ -w /dev/net/tun ] || lacks+=("/dev/net/tun")
    [ -w /dev/kvm ] || lacks+=("/dev/kvm")
    for peer in ip sysctl scamper mtr traceroute tshark tcpdump ethtool qemu-system-x86_64 nsenter stun stund tcpreplay iperf3 bpftool tc nft conntrack python3 nfcapd nfacctd socat openssl dnsmasq dig tmux curl; do
        type -P $peer >/dev/null || lacks+=("$peer")
    done
    [ ${#lacks[@]} = 0 ] || printf 'skipped: tests that need %s' "${lacks[*]}"
}

left_out() { note="left out: $1"; }

# What the runner itself said at the end.
closing_lines() { sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^ +Summary \[|^test result: .* [1-9][0-9]* (passed|failed);'; }

# Runs one gate and closes it with one line. What the tests say is shown as it comes, what any other
# gate says only if it fails.
gate() {
    local name=$1 status=0 began took note=
    began=$(date +%s%N)
    if [ "$name" = tests ]; then
        "$name" 2>&1 </dev/null | tee "$log" || status=$?
        closing=$(closing_lines)
        note=$(lacking)
    else
        "$name" >"$log" 2>&1 </dev/null || { status=$?; cat "$log"; }
    fi
    took=$((($(date +%s%N) - began) / 100000000))
    printf '%-4s %-10s %5d.%d s  %s\n' "$([ $status = 0 ] && echo ok || echo FAIL)" "$name" $((took / 10)) $((took % 10)) "$note"
    return $status
}

[ $# -gt 0 ] || set -- "${all[@]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for name in "$@"; do
    [[ " ${all[*]} " == *" $name "* ]] || { say "no such gate: $name (gates: ${all[*]})"; exit 2; }
done
closing= failed=()
for name in "$@"; do
    gate "$name" || failed+=("$name")
    # What does not compile fails everywhere.
    [[ " ${failed[*]} " == *" clippy "* ]] && break
done
if [ ${#failed[@]} -gt 0 ]; then
    say "failed: ${failed[*]}"
fi
[ -z "$closing" ] || printf '%s\n' "$closing"
[ ${#failed[@]} = 0 ]
