// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
/*
 * Looks the addresses of a packet up in a set of prefixes, between the filter (program.rs), which
 * calls one of these, and the delivery (tap.bpf.c). A set has programs and maps of its own, so that
 * another one can be put together beside it, and takes its place with the filter that calls it.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "tap.h"

/* The first two deliver, as in tap.bpf.c; the other two are those below. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} delivery SEC(".maps");

struct key4 {
	__u32 bits;
	__u8 address[4];
};

struct key6 {
	__u32 bits;
	__u8 address[16];
};

/* Each with INCLUDE or EXCLUDE; the longest one counts. The loader says how many there are. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct key4);
	__type(value, __u32);
} prefixes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct key6);
	__type(value, __u32);
} prefixes6 SEC(".maps");

/* Whether some prefix includes, so that what is in none is left out. */
const volatile __u32 set_includes;

/* What the set says of both addresses together. */
INLINE __u32 look_up(struct __sk_buff *skb)
{
	__u32 at = 14, said = 0, *found;
	__u16 type;

	if (bpf_skb_load_bytes(skb, 12, &type, 2))
		return 0;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, at + 2, &type, 2))
			return 0;
		at += 4;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct key4 key = { .bits = 32 };

#pragma unroll
		for (int i = 0; i < 2; i++) {
			if (bpf_skb_load_bytes(skb, at + 12 + 4 * i, key.address, 4))
				return said;
			found = bpf_map_lookup_elem(&prefixes4, &key);
			if (found)
				said |= *found;
		}
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct key6 key = { .bits = 128 };

#pragma unroll
		for (int i = 0; i < 2; i++) {
			if (bpf_skb_load_bytes(skb, at + 8 + 16 * i, key.address, 16))
				return said;
			found = bpf_map_lookup_elem(&prefixes6, &key);
			if (found)
				said |= *found;
		}
	}
	return said;
}

INLINE int choose(struct __sk_buff *skb, __u32 direction)
{
	__u32 said = look_up(skb);

	if (said & EXCLUDE)
		return NEXT;
	if (!(said & INCLUDE) && set_includes)
		return NEXT;
	bpf_tail_call(skb, &delivery, direction);
	return NEXT;
}

SEC("tc")
int choose_received(struct __sk_buff *skb)
{
	return choose(skb, 0);
}

SEC("tc")
int choose_sent(struct __sk_buff *skb)
{
	return choose(skb, 1);
}

char LICENSE[] SEC("license") = "GPL";
