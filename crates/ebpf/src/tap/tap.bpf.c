// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
/*
 * What happens to a packet that a filter has chosen. The filter is a program of its own, generated
 * for its expression (program.rs), and calls one of the first two here; the third is on the
 * interfaces that clones leave by, and gives them what lies around them on their way.
 *
 * Nothing here changes a packet that is watched, and every path lets it go on.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>

#include "tap.h"

#define NEXT (-1)
#define DROP 2
#define INLINE static __always_inline

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_OUTPUTS);
	__type(key, __u32);
	__type(value, struct output);
} outputs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* What the filters call: 0 for packets that an interface received, 1 for those it sends; 2 and 3 if
 * their addresses are to be looked up in a set before. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} delivery SEC(".maps");

struct sequence {
	struct bpf_spin_lock lock;
	__u32 next;
};

struct scratch {
	__u8 header[MAX_HEADER];
};

/* How many packets an output has been given, for headers that number them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_OUTPUTS);
	__type(key, __u32);
	__type(value, struct sequence);
} sequences SEC(".maps");

/* Where a header is put together: the stack is too small. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct bucket {
	struct bpf_spin_lock lock;
	__u32 ready;
	__u64 at;
	__u64 packets; /* billionths of a packet that may pass */
	__u64 bytes;   /* billionths of a byte */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

struct key4 {
	__u32 bits;
	__u8 address[4];
};

struct key6 {
	__u32 bits;
	__u8 address[16];
};

/* Prefixes of the set, each with INCLUDE or EXCLUDE; the longest one counts. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct key4);
	__type(value, __u32);
} prefixes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct key6);
	__type(value, __u32);
} prefixes6 SEC(".maps");

struct sighting {
	__u64 at;
	__u64 where;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct sighting);
} sightings SEC(".maps");

/* The part of the kernel's structures that is looked at. */
struct sk_buff {
	__u8 ip_summed : 2;
	__u16 csum_start;
	__u16 csum_offset;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	unsigned int gso_type;
} __attribute__((preserve_access_index));

#define CHECKSUM_PARTIAL_STATE 3

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

/* Says whether the caps leave room for a packet, and takes it. */
INLINE int within_rate(const struct config *c, __u32 packets, __u32 bytes)
{
	const __u64 second = 1000000000;
	__u64 now = bpf_ktime_get_ns(), passed, most;
	__u64 need_packets = packets * second, need_bytes = bytes * second;
	__u32 zero = 0, ok = 1;
	struct bucket *b = bpf_map_lookup_elem(&buckets, &zero);

	if (!b)
		return 1;
	bpf_spin_lock(&b->lock);
	passed = now > b->at ? now - b->at : 0;
	if (!b->ready || passed > second)
		passed = second;
	b->ready = 1;
	if (now > b->at)
		b->at = now;
	/* A tenth of a second's worth may come at once, and at least one large frame. */
	most = c->packets_per_s * (second / 10);
	if (most < 64 * second)
		most = 64 * second;
	b->packets += passed * c->packets_per_s;
	if (b->packets > most)
		b->packets = most;
	most = c->bytes_per_s * (second / 10);
	if (most < 65536 * second)
		most = 65536 * second;
	b->bytes += passed * c->bytes_per_s;
	if (b->bytes > most)
		b->bytes = most;
	if (c->packets_per_s && b->packets < need_packets)
		ok = 0;
	if (c->bytes_per_s && b->bytes < need_bytes)
		ok = 0;
	if (ok && c->packets_per_s)
		b->packets -= need_packets;
	if (ok && c->bytes_per_s)
		b->bytes -= need_bytes;
	bpf_spin_unlock(&b->lock);
	return ok;
}

/* Says whether the same packet was just seen somewhere else. */
INLINE int is_duplicate(struct __sk_buff *skb, const struct config *c, __u32 direction)
{
	__u64 words[8] = {}, key = skb->len, now = bpf_ktime_get_ns();
	__u64 where = ((__u64)skb->ifindex << 1) | direction;
	struct sighting *old, new = { .at = now, .where = where };

	/* From the network header on, as addresses of the link may change on the way. */
	if (bpf_skb_load_bytes(skb, 14, words, 40) && bpf_skb_load_bytes(skb, 14, words, 20))
		return 0;
	bpf_skb_load_bytes(skb, 54, &words[5], 24);
#pragma unroll
	for (int i = 0; i < 8; i++) {
		key = (key ^ words[i]) * 0x9e3779b97f4a7c15;
		key ^= key >> 29;
	}
	old = bpf_map_lookup_elem(&sightings, &key);
	if (old && old->where != where && now - old->at < c->dedup_ns)
		return 1;
	bpf_map_update_elem(&sightings, &key, &new, BPF_ANY);
	return 0;
}

/* What of the kernel's own view of the packet is not in __sk_buff. */
INLINE void describe(struct __sk_buff *ctx, struct record *r)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	__u8 summed = BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed);
	unsigned char *head = BPF_CORE_READ(skb, head);

	if (summed == CHECKSUM_PARTIAL_STATE) {
		r->flags |= CHECKSUM_PARTIAL;
		r->csum_start = BPF_CORE_READ(skb, csum_start) - (__u16)(BPF_CORE_READ(skb, data) - head);
		r->csum_offset = BPF_CORE_READ(skb, csum_offset);
	}
	if (r->gso_size) {
		struct skb_shared_info *info = (void *)(head + BPF_CORE_READ(skb, end));

		r->gso_type = BPF_CORE_READ(info, gso_type);
	}
}

/* Room in the ring has a size that is known beforehand: a packet takes the next larger one. */
#define TRY(size)                                                                        \
	if (cap <= (size)) {                                                             \
		r = bpf_ringbuf_reserve(&ring, sizeof(*r) + (size), 0);                  \
		if (!r)                                                                  \
			return 0;                                                        \
		reserved = sizeof(*r) + (size);                                          \
		copied = cap;                                                            \
		barrier_var(copied);                                                     \
		if (copied == 0 || copied > (size) ||                                    \
		    bpf_skb_load_bytes(skb, 0, r + 1, copied)) {                         \
			bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                        \
			return 0;                                                        \
		}                                                                        \
	} else

INLINE int to_ring(struct __sk_buff *skb, const struct config *c, __u32 cap, __u32 direction)
{
	struct record *r;
	__u32 reserved;
	__u64 copied;
	__u64 flags = BPF_RB_NO_WAKEUP, waiting;

	TRY(64)
	TRY(128)
	TRY(192)
	TRY(256)
	TRY(512)
	TRY(1024)
	TRY(1536)
	TRY(3072)
	TRY(9216)
	TRY(20480)
	TRY(40960)
	TRY(66560)
	return 0;

	r->at = bpf_ktime_get_ns();
	r->len = skb->len;
	r->cap = cap;
	r->ifindex = skb->ifindex;
	r->direction = direction;
	r->flags = 0;
	r->gso_type = 0;
	r->gso_size = skb->gso_size;
	r->gso_segs = skb->gso_segs;
	r->vlan_proto = 0;
	r->vlan_tci = 0;
	r->csum_start = 0;
	r->csum_offset = 0;
	r->reserved[0] = 0;
	r->reserved[1] = 0;
	if (skb->vlan_present) {
		r->flags = VLAN_PRESENT;
		r->vlan_proto = skb->vlan_proto;
		r->vlan_tci = skb->vlan_tci;
	}
	describe(skb, r);
	if (c->flags & WAKE) {
		flags = 0;
	} else {
		waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
		if (waiting >= c->watermark && waiting - reserved < c->watermark)
			flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(r, flags);
	return 1;
}

INLINE void to_output(struct __sk_buff *skb, const struct config *c, struct counters *n,
		      __u32 index, __u32 direction, __u32 hash)
{
	struct output *out = bpf_map_lookup_elem(&outputs, &index);
	__u32 mark = skb->mark;
	long failed;

	if (!out)
		return;
	skb->mark = TAP_MARK;
	skb->cb[0] = c->id;
	skb->cb[1] = index | (direction << 8);
	skb->cb[2] = hash;
	skb->cb[3] = skb->ifindex;
	skb->cb[4] = n->output_failed + n->ring_full + n->rate_limited;
	failed = bpf_clone_redirect(skb, out->ifindex, 0);
	skb->mark = mark;
	if (failed)
		n->output_failed++;
	else
		n->delivered++;
}

INLINE int deliver(struct __sk_buff *skb, __u32 direction)
{
	__u32 zero = 0, len = skb->len, cap, segments;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct counters *n = bpf_map_lookup_elem(&counters, &zero);
	struct flow flow = {};

	if (!c || !n)
		return NEXT;
	segments = skb->gso_segs ?: 1;
	n->matched++;
	if (c->flow_threshold || (c->flags & HEADERS_ONLY) || c->outputs)
		find_flow(skb, &flow);
	if (c->flow_threshold && flow.hash >= c->flow_threshold) {
		n->sampled_out++;
		return NEXT;
	}
	if (c->sample > 1 && bpf_get_prandom_u32() % c->sample) {
		n->sampled_out++;
		return NEXT;
	}
	if ((c->flags & DEDUPLICATE) && is_duplicate(skb, c, direction)) {
		n->duplicates++;
		return NEXT;
	}
	if ((c->flags & LIMIT_RATE) && !within_rate(c, segments, len)) {
		n->rate_limited++;
		return NEXT;
	}
	cap = len;
	if (c->flags & HEADERS_ONLY && flow.headers < cap)
		cap = flow.headers;
	if (c->snaplen && cap > c->snaplen)
		cap = c->snaplen;
	if (cap < len)
		n->truncated++;
	if (c->flags & TO_RING) {
		if (to_ring(skb, c, cap, direction)) {
			n->delivered++;
			n->delivered_bytes += cap;
		} else {
			n->ring_full++;
		}
	}
	if (c->outputs) {
		/* The top of the hash, as its end decides on the sampling of flows. */
		__u32 chosen = ((__u64)flow.hash * c->outputs) >> 32;

#pragma unroll
		for (__u32 i = 0; i < MAX_OUTPUTS; i++) {
			if (i >= c->outputs)
				break;
			if ((c->flags & BALANCE) && i != chosen)
				continue;
			to_output(skb, c, n, i, direction, flow.hash);
		}
	}
	return NEXT;
}

SEC("tc")
int deliver_received(struct __sk_buff *skb)
{
	return deliver(skb, 0);
}

SEC("tc")
int deliver_sent(struct __sk_buff *skb)
{
	return deliver(skb, 1);
}

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
	__u32 zero = 0, said = look_up(skb);
	struct config *c = bpf_map_lookup_elem(&config, &zero);

	if (!c || (said & EXCLUDE))
		return NEXT;
	if (!(said & INCLUDE) && (c->flags & SET_INCLUDES))
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
	__u64 now = bpf_ktime_get_ns() + c->wall_offset;
	__u32 direction = skb->cb[1] >> 8 & 1;

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
		/* Three options behind 16 bytes: time; interface and direction; losses. */
		*(__u32 *)(h + 20) = bpf_htonl(now >> 32);
		*(__u32 *)(h + 24) = bpf_htonl(now);
		*(__u32 *)(h + 32) = bpf_htonl(skb->cb[3]);
		h[36] = direction;
		*(__u32 *)(h + 44) = bpf_htonl(skb->cb[4]);
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
	*scratch = *(struct scratch *)out->header;
	complete(skb, c, out, scratch->header, skb->len - len);
	if (len == 0 || len > MAX_HEADER)
		return -1;
	failed = bpf_skb_store_bytes(skb, 0, scratch->header, len, 0);
	failed |= bpf_skb_store_bytes(skb, len, inner.mac, 12, 0);
	len += 12;
	if (tag == 8)
		failed |= bpf_skb_store_bytes(skb, len, inner.tags, 8, 0);
	else if (tag)
		failed |= bpf_skb_store_bytes(skb, len, inner.tags, 4, 0);
	len += tag;
	failed |= bpf_skb_store_bytes(skb, len, inner.type, 2, 0);
	return failed;
}

SEC("tc")
int encapsulate(struct __sk_buff *skb)
{
	__u32 zero = 0, index, tag, most = 0, overhead;
	struct config *c;
	struct counters *n;
	struct output *out;

	if (skb->mark != TAP_MARK)
		return NEXT;
	c = bpf_map_lookup_elem(&config, &zero);
	n = bpf_map_lookup_elem(&counters, &zero);
	index = skb->cb[1] & 0xff;
	out = bpf_map_lookup_elem(&outputs, &index);
	if (!c || !n || !out || skb->cb[0] != c->id)
		return NEXT;
	/* It has its header. */
	skb->cb[0] = 0;
	tag = skb->vlan_present ? 4 : 0;
	if (c->snaplen)
		most = c->snaplen;
	if (c->flags & HEADERS_ONLY) {
		struct flow flow;

		find_flow(skb, &flow);
		if (!most || flow.headers < most)
			most = flow.headers;
	}
	/* Lengths are those of the wire, where the tag is within. */
	if (most > tag)
		most -= tag;
	overhead = out->len ? out->len + tag : 0;
	/* What does not fit the link is cut, rather than lost. */
	if (!skb->gso_size && skb->len + overhead > out->mtu + 14)
		if (!most || most > out->mtu + 14 - overhead) {
			most = out->mtu + 14 - overhead;
			n->truncated++;
		}
	if (most && skb->len > most && bpf_skb_change_tail(skb, most, 0)) {
		n->output_failed++;
		return DROP;
	}
	if (out->len && wrap(skb, c, out)) {
		n->output_failed++;
		return DROP;
	}
	n->delivered_bytes += skb->len;
	return NEXT;
}

char LICENSE[] SEC("license") = "GPL";
