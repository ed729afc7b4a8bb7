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

#include "../ring.h"
#include "tap.h"

#define DROP 2

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

/* Packets that the session lost, on all processors together, for headers that tell. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

/* What the filters call: 0 for packets that an interface received, 1 for those it sends. */
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
	__u8 inner[24]; /* room for the Ethernet header that follows, with two tags */
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

#define MASK_STEP 32768
#define MASK_STEPS 32

/* What a payload is overwritten with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[MASK_STEP]);
} zeros SEC(".maps");

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

#include "flow.h"

/* Counts a lost packet where its reason is counted, and where all are. */
INLINE void lose(__u64 *reason)
{
	__u32 zero = 0;
	__u64 *all = bpf_map_lookup_elem(&losses, &zero);

	(*reason)++;
	if (all)
		__sync_fetch_and_add(all, 1);
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

/* Since Linux 6.2. Without it, each member that is read costs a call. */
extern void *bpf_cast_to_kern_ctx(void *obj) __ksym __weak;

/* What kind of large frame it is. These are few: calls do for them everywhere. */
INLINE __u32 gso_type(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	struct skb_shared_info *info = (void *)(BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end));

	return BPF_CORE_READ(info, gso_type);
}

INLINE void describe_checksum(struct record *r, __u16 start, __u16 offset)
{
	r->flags |= CHECKSUM_PARTIAL;
	r->csum_start = start;
	r->csum_offset = offset;
}

/* What of the kernel's own view of the packet is not in __sk_buff. */
INLINE void describe(struct __sk_buff *ctx, struct record *r)
{
	if (bpf_ksym_exists(bpf_cast_to_kern_ctx)) {
		struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);

		if (BPF_CORE_READ_BITFIELD(skb, ip_summed) == CHECKSUM_PARTIAL_STATE)
			describe_checksum(r, skb->csum_start - (skb->data - skb->head), skb->csum_offset);
	} else {
		struct sk_buff *skb = (struct sk_buff *)ctx;

		if (BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) == CHECKSUM_PARTIAL_STATE)
			describe_checksum(r,
					  BPF_CORE_READ(skb, csum_start) -
						  (BPF_CORE_READ(skb, data) - BPF_CORE_READ(skb, head)),
					  BPF_CORE_READ(skb, csum_offset));
	}
	if (r->gso_size)
		r->gso_type = gso_type(ctx);
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

INLINE int to_ring(struct __sk_buff *skb, const struct config *c, __u32 cap, __u32 headers,
		   __u32 direction)
{
	struct record *r;
	__u32 reserved;
	__u64 copied;
	__u64 flags = BPF_RB_NO_WAKEUP;

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
	r->headers = UNMASKED;
	if (c->flags & MASK && headers < UNMASKED)
		r->headers = headers;
	if (skb->vlan_present) {
		r->flags = VLAN_PRESENT;
		r->vlan_proto = skb->vlan_proto;
		r->vlan_tci = skb->vlan_tci;
	}
	describe(skb, r);
	if (c->flags & WAKE) {
		flags = 0;
	} else if (wakes(&ring, c->watermark, reserved)) {
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
	failed = bpf_clone_redirect(skb, out->ifindex, 0);
	skb->mark = mark;
	if (failed)
		lose(&n->output_failed);
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
	if (c->flags & NEEDS_FLOW)
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
		lose(&n->rate_limited);
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
		if (to_ring(skb, c, cap, flow.headers, direction)) {
			n->delivered++;
			n->delivered_bytes += cap;
		} else {
			lose(&n->ring_full);
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

/*
 * Overwrites what is behind the headers of a clone. Pulling all of it gives the clone memory of its
 * own, which is what keeps the watched packet as it is: pages are still shared before. A function of
 * its own, since the verifier would go through the loop anew for each way that leads to it.
 */
__attribute__((noinline)) int mask(struct __sk_buff *skb, __u32 from)
{
	__u32 zero = 0, len = skb->len;
	void *step = bpf_map_lookup_elem(&zeros, &zero);

	if (from >= len)
		return 0;
	if (!step)
		return -1;
	/* A list of packets cannot be cut again once it is one. */
	if (skb->gso_size && gso_type(skb) & GSO_FRAGLIST)
		return -1;
	if (bpf_skb_pull_data(skb, len))
		return -1;
	for (int i = 0; i < MASK_STEPS && from < len; i++) {
		__u64 part = len - from;

		if (part > MASK_STEP)
			part = MASK_STEP;
		barrier_var(part);
		if (part == 0 || part > MASK_STEP)
			return -1;
		if (bpf_skb_store_bytes(skb, from, step, part, BPF_F_RECOMPUTE_CSUM))
			return -1;
		from += part;
	}
	return from < len ? -1 : 0;
}

#include "encapsulate.h"

SEC("tc")
int encapsulate(struct __sk_buff *skb)
{
	__u32 zero = 0, index, tag, most = 0, overhead;
	struct flow flow = {};
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
	if (c->flags & (HEADERS_ONLY | MASK))
		find_flow(skb, &flow);
	if (c->flags & HEADERS_ONLY)
		if (!most || flow.headers < most)
			most = flow.headers;
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
		lose(&n->output_failed);
		return DROP;
	}
	if (c->flags & MASK && mask(skb, flow.headers)) {
		lose(&n->output_failed);
		return DROP;
	}
	if (out->len && wrap(skb, c, out)) {
		lose(&n->output_failed);
		return DROP;
	}
	n->delivered_bytes += skb->len;
	return NEXT;
}

char LICENSE[] SEC("license") = "GPL";
