/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/* Headers of tunnels before a clone: they are put together in user space, and completed here. */
#ifndef PLUMB_TAP_ENCAPSULATE_H
#define PLUMB_TAP_ENCAPSULATE_H

INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The lengths, checksum, port and times of a header that is to go before `inner` bytes. */
INLINE void complete(struct __sk_buff *skb, const struct config *c, const struct output *out,
		     __u8 *h, __u32 inner)
{
	__u32 ip_len = out->len - 14 + inner, at = 14 + (out->ip == 4 ? 20 : 40);
	__u64 now = 0;
	__u32 direction = skb->cb[1] >> 8 & 1;

	/* The clock is read only where a header has the time. */
	if (out->kind == GENEVE || out->kind == ERSPAN3)
		now = bpf_ktime_get_ns() + c->wall_offset;
	if (out->ip == 4) {
		*(__u16 *)(h + 16) = bpf_htons(ip_len);
		*(__u16 *)(h + 24) = fold(out->ip_sum + bpf_htons(ip_len));
	} else {
		*(__u16 *)(h + 18) = bpf_htons(ip_len - 40);
	}
	if (out->ip == 4)
		h += 34;
	else
		h += 54;
	if (out->kind == VXLAN || out->kind == GENEVE) {
		/* The ports of hosts that speak first (RFC 7348 §4.2). */
		*(__u16 *)h = bpf_htons(0xc000 | (skb->cb[2] & 0x3fff));
		*(__u16 *)(h + 4) = bpf_htons(ip_len + 14 - at);
	}
	if (out->kind == GENEVE) {
		__u32 zero = 0;
		__u64 *lost = bpf_map_lookup_elem(&losses, &zero);

		/* Three options behind 16 bytes: time; interface and direction; losses. */
		*(__u32 *)(h + 20) = bpf_htonl(now >> 32);
		*(__u32 *)(h + 24) = bpf_htonl(now);
		*(__u32 *)(h + 32) = bpf_htonl(skb->cb[3]);
		h[36] = direction;
		*(__u32 *)(h + 44) = bpf_htonl(lost ? *lost : 0);
	}
	if (out->kind == ERSPAN2 || out->kind == ERSPAN3) {
		__u32 index = skb->cb[1] & 0xff;
		struct sequence *sequence = bpf_map_lookup_elem(&sequences, &index);

		if (sequence) {
			__u32 number;

			bpf_spin_lock(&sequence->lock);
			number = sequence->next++;
			bpf_spin_unlock(&sequence->lock);
			*(__u32 *)(h + 4) = bpf_htonl(number);
		}
	}
	if (out->kind == ERSPAN3) {
		*(__u32 *)(h + 12) = bpf_htonl(now / 100);
		h[19] |= direction << 3;
	}
}

/* Ethernet header of what is carried: 14 bytes, and tags that were beside the packet or came there
 * when the one before was taken away. */
struct inner {
	__u8 mac[12];
	__u8 tags[8];
	__u8 type[2];
};

/* Puts the outer header and the inner Ethernet header before the network header, as the kernel's
 * own tunnels do, so that large frames can be cut later. */
INLINE long wrap_ip(struct __sk_buff *skb, const struct output *out, __u32 tag)
{
	__u64 flags = 0;

	/* Headers of TCP over IPv6 with options, and their Ethernet header. */
	if (skb->gso_size && skb->gso_size + 86 + out->len - 14 <= out->mtu)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	flags |= out->ip == 4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	if (out->kind == VXLAN || out->kind == GENEVE)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	else
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_GRE;
	if (tag == 8)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L2(22ULL);
	else if (tag)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L2(18ULL);
	else
		flags |= BPF_F_ADJ_ROOM_ENCAP_L2(14ULL);
	flags |= BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	return bpf_skb_adjust_room(skb, out->len + tag, BPF_ADJ_ROOM_MAC, flags);
}

INLINE long wrap(struct __sk_buff *skb, const struct config *c, const struct output *out)
{
	__u32 tag = 0, len = out->len, protocol, zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	struct inner inner;
	__u8 *h;
	long failed;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (!skb->vlan_present)
			break;
		*(__u16 *)(inner.tags + tag) = skb->vlan_proto;
		*(__u16 *)(inner.tags + tag + 2) = bpf_htons(skb->vlan_tci);
		tag += 4;
		if (bpf_skb_vlan_pop(skb))
			return -1;
	}
	if (skb->vlan_present || !scratch)
		return -1;
	if (bpf_skb_load_bytes(skb, 0, inner.mac, 12) || bpf_skb_load_bytes(skb, 12, inner.type, 2))
		return -1;
	protocol = skb->protocol;
	if (protocol == bpf_htons(ETH_P_IP) || protocol == bpf_htons(ETH_P_IPV6))
		failed = wrap_ip(skb, out, tag);
	else
		failed = bpf_skb_change_head(skb, len + tag, 0);
	if (failed)
		return failed;
	if (skb->len > 65535 + 14)
		return -1;
	__builtin_memcpy(scratch->header, out->header, MAX_HEADER);
	complete(skb, c, out, scratch->header, skb->len - len);
	if (len == 0 || len > MAX_HEADER)
		return -1;
	h = scratch->header + len;
	__builtin_memcpy(h, inner.mac, 12);
	h += 12;
	if (tag)
		__builtin_memcpy(h, inner.tags, 4);
	if (tag == 8)
		__builtin_memcpy(h + 4, inner.tags + 4, 4);
	h[tag & 12] = inner.type[0];
	h[(tag & 12) + 1] = inner.type[1];
	return bpf_skb_store_bytes(skb, 0, scratch->header, len + (tag & 12) + 14, 0);
}

#endif
