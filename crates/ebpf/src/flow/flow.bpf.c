// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";
