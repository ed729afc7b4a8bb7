/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/* The flow of a packet, and where its payload begins. */
#ifndef PLUMB_TAP_FLOW_H
#define PLUMB_TAP_FLOW_H

/* What is said of the flow of a packet. */
struct flow {
	__u32 hash;    /* the same for both directions */
	__u32 headers; /* bytes up to the transport payload, or all that is known */
};

INLINE __u32 mix(__u32 h)
{
	h ^= h >> 16;
	h *= 0x7feb352d;
	h ^= h >> 15;
	h *= 0x846ca68b;
	h ^= h >> 16;
	return h;
}

INLINE void transport(struct __sk_buff *skb, __u32 at, __u8 protocol, __u32 sum, struct flow *flow)
{
	__u8 header[14];

	flow->headers = at;
	if (protocol == 6 || protocol == 17 || protocol == 132 || protocol == 136) {
		__u16 ports[2];

		if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)) == 0)
			sum += mix((ports[0] ^ ports[1]) + ((__u32)(__u16)(ports[0] + ports[1]) << 16));
	}
	if (protocol == 17 || protocol == 136 || protocol == 1 || protocol == 58)
		flow->headers = at + 8;
	else if (protocol == 132)
		flow->headers = at + 12;
	else if (protocol == 6 && bpf_skb_load_bytes(skb, at, header, sizeof(header)) == 0)
		flow->headers = at + (header[12] >> 4) * 4;
	flow->hash = mix(sum ^ protocol);
}

/* The flow of a packet: addresses and ports where there are some, else the Ethernet addresses. */
INLINE void find_flow(struct __sk_buff *skb, struct flow *flow)
{
	__u32 at = 14;
	__u16 type;
	__u32 w[10];

	flow->hash = 0;
	flow->headers = 14;
	if (bpf_skb_load_bytes(skb, 12, &type, 2))
		return;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, at + 2, &type, 2))
			return;
		at += 4;
	}
	flow->headers = at;
	if (type == bpf_htons(ETH_P_IP)) {
		__u8 *b = (__u8 *)w;
		__u16 fragment;

		if (bpf_skb_load_bytes(skb, at, w, 20))
			return;
		fragment = ((b[6] & 0x3f) << 8) | b[7];
		at += (b[0] & 15) * 4;
		/* A fragment has no ports, or is alone in having them: addresses keep it with the others. */
		if (fragment) {
			flow->headers = at;
			flow->hash = mix((w[3] ^ w[4]) + mix(w[3] + w[4]));
			return;
		}
		transport(skb, at, b[9], (w[3] ^ w[4]) + mix(w[3] + w[4]), flow);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		__u32 a, b;

		if (bpf_skb_load_bytes(skb, at, w, 40))
			return;
		a = mix(mix(mix(w[2]) + w[3]) + w[4]) + w[5];
		b = mix(mix(mix(w[6]) + w[7]) + w[8]) + w[9];
		transport(skb, at + 40, ((__u8 *)w)[6], (a ^ b) + mix(a + b), flow);
	} else if (bpf_skb_load_bytes(skb, 0, w, 12) == 0) {
		__u16 *m = (__u16 *)w;

		flow->hash = mix((m[0] ^ m[3]) + mix((m[1] ^ m[4]) + mix(m[2] ^ m[5])));
	}
}

#endif
