#!/usr/bin/env bash
# Installs what a make target needs and is not there: scripts/setup.sh run|test|bench|lint|dist
# Safe to repeat; says nothing where nothing is missing.
set -euo pipefail
. "$(dirname "$0")/env.sh"

goal=${1:-}
# Each word is what must be there (a command, a file, a Python module) and the Debian package that
# brings it; + marks what can be done without.
peers="+nft=nftables +python3=python3 +conntrack=conntrack +ip=iproute2 +sysctl=procps +ping=iputils-ping +scamper=scamper +mtr=mtr-tiny +traceroute=traceroute +tshark=tshark +tcpdump=tcpdump +ethtool=ethtool +tmux=tmux +stun=stun-client +stund=stun-server +tcpreplay=tcpreplay +iperf3=iperf3 +bpftool=bpftool +nfcapd=nfdump +nfacctd=pmacct +ipfixDump=libfixbuf-tools +promtool=prometheus +socat=socat +openssl=openssl +ss=iproute2 +dnsmasq=dnsmasq-base +dig=bind9-dnsutils +setpriv=util-linux"
build="cc=gcc ld=binutils clang=clang /usr/include/libelf.h=libelf-dev /usr/include/zlib.h=zlib1g-dev curl=curl /usr/include/stdlib.h=libc6-dev /etc/ssl/certs/ca-certificates.crt=ca-certificates"
machines="+qemu-system-x86_64=qemu-system-x86 +nsenter=util-linux"
containers="+crun=crun +runc=runc"
python="+python:ensurepip=python3-venv"
case $goal in
    run) needs=$build ;;
    dist) needs="$build tar=tar gzip=gzip" ;;
    bench) needs="$build tar=tar gzip=gzip ip=iproute2 unshare=util-linux nft=nftables ping=iputils-ping sysctl=procps +iperf3=iperf3 +nuttcp=nuttcp +scamper=scamper +ethtool=ethtool +tcpdump=tcpdump +mtr=mtr-tiny +traceroute=traceroute +bpftool=bpftool +bpftrace=bpftrace +tcplife=libbpf-tools $machines $containers" ;;
    lint) needs="$build $python" ;;
    test) needs="$build $peers $machines $python" ;;
    *)
        say "usage: scripts/setup.sh run|test|bench|lint|dist"
        exit 2
        ;;
esac

is_there() {
    case $1 in
        /*) [ -e "$1" ] ;;
        python:*) python3 -c "import ${1#*:}" 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# Packages that are missing: of what is `needed`, or `all`.
missing_packages() {
    local word thing
    for word in $needs; do
        thing=${word%%=*}
        [ "$1" = needed ] && [[ $thing == +* ]] && continue
        thing=${thing#+}
        is_there "$thing" || printf '%s ' "${word#*=}"
    done
}

as_root=
may_be_root() {
    [ "$(id -u)" = 0 ] && return 0
    command -v sudo >/dev/null || return 1
    as_root=sudo
    if [ -t 0 ]; then sudo -v; else as_root="sudo -n"; sudo -n true 2>/dev/null; fi
}

# Runs a command quietly, and shows what it said only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] || tail -n 3 "$log" >&2
    rm -f "$log"
    return $status
}

apt() {
    quietly $as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=30 "$@"
}

install_packages() {
    local packages needed
    packages=$(missing_packages all)
    needed=$(missing_packages needed)
    [ -n "$packages" ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "setup: missing: $packages(names of Debian packages; this system has no apt-get)"
    elif ! may_be_root; then
        say "setup: missing: $packages- run as root: apt-get install --no-install-recommends $packages"
    else
        say "setup: installing $packages"
        apt update || say "setup: the package lists could not be brought up to date"
        # What can be done without, and is perhaps not in this archive, must not keep the rest.
        if ! apt install --no-install-recommends $packages; then
            say "setup: apt-get could not install all of that"
            [ -z "$needed" ] || [ "$needed" = "$packages" ] || apt install --no-install-recommends $needed || true
        fi
    fi
    needed=$(missing_packages needed)
    if [ -n "$needed" ]; then
        say "setup: cannot go on without: $needed"
        exit 1
    fi
}

# The toolchain of the wanted version, beside those that are there; nothing else is touched.
install_rust() {
    local wanted rustup
    wanted=$(rust_wanted)
    use_rust && return 0
    if ! command -v rustup >/dev/null; then
        if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]' && may_be_root; then
            say "setup: installing rustup"
            apt install --no-install-recommends rustup || true
        fi
    fi
    if ! command -v rustup >/dev/null; then
        say "setup: installing rustup into ${CARGO_HOME:-$HOME/.cargo}"
        rustup=$(mktemp -d)
        local url
        url=https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init
        if ! quietly curl --proto =https --tlsv1.2 -fsS --connect-timeout 20 -o "$rustup/rustup-init" "$url" ||
            ! quietly curl --proto =https --tlsv1.2 -fsS --connect-timeout 20 -o "$rustup/sum" "$url.sha256" ||
            [ "$(sha256sum <"$rustup/rustup-init" | cut -c 1-64)" != "$(cut -c 1-64 "$rustup/sum")" ]; then
            rm -rf "$rustup"
            say "setup: Rust $wanted or later is missing and could not be downloaded from static.rust-lang.org"
            exit 1
        fi
        chmod +x "$rustup/rustup-init"
        quietly "$rustup/rustup-init" -y --no-modify-path --profile minimal --default-toolchain none || true
        rm -rf "$rustup"
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    say "setup: installing Rust $wanted"
    quietly rustup toolchain install "$wanted" --profile minimal --component clippy --component rustfmt || true
    if ! use_rust; then
        say "setup: Rust $wanted or later is missing and could not be installed (rustup toolchain install $wanted)"
        exit 1
    fi
}

install_components() {
    local component
    for component in fmt=rustfmt clippy=clippy; do
        cargo "${component%%=*}" --version >/dev/null 2>&1 && continue
        say "setup: installing ${component#*=}"
        if ! command -v rustup >/dev/null || ! quietly rustup component add "${component#*=}"; then
            say "setup: ${component#*=} is missing and could not be installed"
            exit 1
        fi
    done
}

# Python tools, in a folder of their own; a gate whose tool is missing says so.
install_python_tools() {
    [ .venv/installed -nt scripts/requirements.txt ] && return 0
    local tools
    tools=$(tr '\n' ' ' <scripts/requirements.txt)
    if ! is_there python:ensurepip; then
        say "setup: without python3-venv there is no ${tools% }; its gate is left out"
        return 0
    fi
    say "setup: installing ${tools}into .venv"
    if quietly python3 -m venv .venv && quietly .venv/bin/pip install -q --disable-pip-version-check -r scripts/requirements.txt; then
        touch .venv/installed
    else
        say "setup: that failed; the gates of these tools are left out"
    fi
}

install_packages
install_rust
case $goal in
    lint | test)
        install_components
        install_python_tools
        ;;
esac
