/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * What only who sees each segment can know: round-trip times one by one, how far segments are ahead
 * of a gap, windows that closed, and multipath connections that waited for one of their paths. Off
 * unless asked for, and then in storage of its own.
 *
 * Totals are changed only where the socket is locked (flow_segment, and where it leaves
 * ESTABLISHED). A pass over the connections reads beside that: what it tells is at most a segment old.
 */
#ifndef PLUMB_FLOW_SEGMENTS_H
#define PLUMB_FLOW_SEGMENTS_H

struct segments {
	struct flow_segments sums;
	/* What the latest segment but this one left behind. */
	__u32 srtt_us8;
	__u32 mdev_us4;
	__u32 delivered;
	/* The same when a window was last told, since that had the sample in it. */
	__u32 told_srtt_us8;
	__u32 told_mdev_us4;
	__u32 told_delivered;
	__u32 window; /* of the connection, counted */
	__u32 extremes_window; /* the one that the extremes are of */
	/* The latest segment, if it came ahead of a gap: how far, of how many, each of which size. */
	__u32 ahead;
	__u32 ahead_count;
	__u32 ahead_size;
	__u32 ooopack; /* tcp_sock.rcv_ooopack before it */
	__u8 ahead_told; /* the window that was told has it */
	__u8 is_shut; /* this closed window is counted */
	__u8 is_over; /* not ESTABLISHED any more: its segments are not seen */
};

/* Made where a connection is established, so never by what does not come that far. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct segments);
} segments SEC(".maps");

/* The same by address, as states_by_address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* user space knows better */
	__type(key, __u64);
	__type(value, struct segments);
} segments_by_address SEC(".maps");

const struct segments no_segments = {};

struct stalls {
	__u32 count;
	__u32 is_stalled;
};

/*
 * Multipath connections by address: the kernel lets no program reach the storage of one from its
 * paths. An entry lives from ESTABLISHED to CLOSE; 1 where stalls are not watched.
 */
#define MAX_MULTIPATH 65536

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_MULTIPATH);
	__type(key, __u64);
	__type(value, struct stalls);
} stalls SEC(".maps");

static __always_inline struct segments *create_segments(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (!config.by_address)
		return bpf_sk_storage_get(&segments, (void *)sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_map_update_elem(&segments_by_address, &key, &no_segments, BPF_NOEXIST);
	return bpf_map_lookup_elem(&segments_by_address, &key);
}

static __always_inline struct segments *find_segments(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (!config.by_address)
		return bpf_sk_storage_get(&segments, (void *)sk, 0, 0);
	return bpf_map_lookup_elem(&segments_by_address, &key);
}

/* Where a socket is gone; its storage goes with it. */
static __always_inline void take_out_segments(const void *sk)
{
	__u64 key = (__u64)sk;

	if (config.segments && config.by_address)
		bpf_map_delete_elem(&segments_by_address, &key);
}

static __always_inline void begin_segments(const struct sock *sk, const struct tcp_sock *tp)
{
	struct segments *seg;

	if (!config.segments)
		return;
	seg = create_segments(sk);
	if (!seg)
		return;
	__builtin_memset(seg, 0, sizeof(*seg));
	/* That of the handshake is no sample. */
	seg->srtt_us8 = tp->srtt_us;
	seg->mdev_us4 = tp->mdev_us;
	seg->delivered = tp->delivered;
	seg->told_srtt_us8 = seg->srtt_us8;
	seg->told_mdev_us4 = seg->mdev_us4;
	seg->told_delivered = seg->delivered;
	seg->is_over = sk->__sk_common.skc_state != TCP_ESTABLISHED &&
		       sk->__sk_common.skc_state != TCP_SYN_SENT &&
		       sk->__sk_common.skc_state != TCP_SYN_RECV;
}

static __always_inline void begin_stalls(const struct sock *sk)
{
	struct stalls none = {};
	__u64 key = (__u64)sk;

	if (config.stalls)
		bpf_map_update_elem(&stalls, &key, &none, BPF_ANY);
}

static __always_inline void end_stalls(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (config.stalls)
		bpf_map_delete_elem(&stalls, &key);
}

/*
 * The round-trip time, in microseconds, that the latest segment gave the estimator
 * (tcp_rtt_estimator, RFC 6298); 0 if it gave none. There is at most one a segment. The estimator makes srtt = srtt -
 * srtt / 8 + sample (srtt being eight times the time), so the sample can be had back exactly. One that
 * is what was expected, to the microsecond, changes mdev at least, until that is below its unit: then
 * what was acknowledged tells.
 */
static __always_inline __u32 sample(const struct tcp_sock *tp, const struct segments *seg)
{
	__u32 srtt = tp->srtt_us, rtt;

	if (srtt == seg->srtt_us8 && tp->mdev_us == seg->mdev_us4 &&
	    (tp->mdev_us >> 2 || tp->delivered == seg->delivered))
		return 0;
	rtt = seg->srtt_us8 ? srtt - seg->srtt_us8 + (seg->srtt_us8 >> 3) : srtt >> 3;
	return rtt ? rtt : 1;
}

/* Whether the remote end's window is closed, something is to be sent, and that is not counted. */
static __always_inline bool shuts(const struct tcp_sock *tp, const struct segments *seg)
{
	return !tp->snd_wnd && tp->write_seq != tp->snd_una && !seg->is_shut;
}

static __always_inline void add_extremes(struct flow_segments *sums, __u32 rtt)
{
	if (!sums->rtt_min_us || rtt < sums->rtt_min_us)
		sums->rtt_min_us = rtt;
	if (rtt > sums->rtt_max_us)
		sums->rtt_max_us = rtt;
}

static __always_inline void add_sample(struct flow_segments *sums, __u32 rtt)
{
	sums->rtt_count++;
	sums->rtt_sum_us += rtt;
}

/* a * b, added to a sum in two halves. */
static __always_inline void add_product(struct flow_segments *sums, __u64 a, __u32 b)
{
	sums->distance_squares_low += (a & 0xffffffff) * b;
	sums->distance_squares_high += (a >> 32) * b;
}

/*
 * Whether the latest segment was taken in ahead of a gap (tcp_data_queue_ofo counts it), and not
 * discarded for what else was wrong with it.
 */
static __always_inline bool was_ahead(const struct tcp_sock *tp, const struct segments *seg)
{
	return seg->ahead && tp->rcv_ooopack != seg->ooopack;
}

/*
 * Its distance. The kernel may have put several segments into one: each has its own, d, d + size, and
 * so on.
 */
static __always_inline void add_distance(struct flow_segments *sums, const struct segments *seg)
{
	__u64 distance = seg->ahead, n = seg->ahead_count, size = seg->ahead_size;

	sums->distance_count += n;
	sums->distance_sum += n * distance + n * (n - 1) / 2 * size;
	add_product(sums, distance * distance, n);
	if (n > 1) {
		/* (d + i size)^2 = d^2 + 2 i d size + i^2 size^2 */
		add_product(sums, distance * size, n * (n - 1));
		add_product(sums, size * size, (n - 1) * n * (2 * n - 1) / 6);
	}
}

static __always_inline void add_furthest(struct flow_segments *sums, const struct segments *seg)
{
	__u32 furthest = seg->ahead + (seg->ahead_count - 1) * seg->ahead_size;

	if (furthest > sums->distance_max)
		sums->distance_max = furthest;
}

/* Takes in what the latest segment has done. */
static __always_inline void settle(const struct tcp_sock *tp, struct segments *seg)
{
	__u32 rtt = sample(tp, seg);
	bool told = false;

	if (seg->extremes_window != seg->window) {
		seg->extremes_window = seg->window;
		seg->sums.rtt_min_us = seg->sums.rtt_max_us = seg->sums.distance_max = 0;
		told = seg->told_srtt_us8 == tp->srtt_us && seg->told_mdev_us4 == tp->mdev_us &&
		       seg->told_delivered == tp->delivered;
	}
	if (rtt) {
		add_sample(&seg->sums, rtt);
		if (!told)
			add_extremes(&seg->sums, rtt);
		seg->srtt_us8 = tp->srtt_us;
		seg->mdev_us4 = tp->mdev_us;
	}
	seg->delivered = tp->delivered;
	if (was_ahead(tp, seg)) {
		add_distance(&seg->sums, seg);
		if (!seg->ahead_told)
			add_furthest(&seg->sums, seg);
	}
	seg->ahead = 0;
	if (shuts(tp, seg)) {
		seg->is_shut = 1;
		seg->sums.zero_windows++;
	} else if (tp->snd_wnd)
		seg->is_shut = 0;
}

/* The connection leaves ESTABLISHED: the last of its segments that is seen was the latest. */
static __always_inline void end_segments(const struct sock *sk)
{
	const struct tcp_sock *tp;
	struct segments *seg;

	if (!config.segments)
		return;
	seg = find_segments(sk);
	if (!seg || seg->is_over)
		return;
	tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return;
	settle(tp, seg);
	seg->is_over = 1;
}

/* The sums, with what the latest segment has done; that remains to be settled. */
static __always_inline void fill_segments(struct flow_segments *to, const struct sock *sk,
					  const struct tcp_sock *tp, bool ends_window)
{
	struct segments *seg;
	__u32 rtt;

	__builtin_memset(to, 0, sizeof(*to));
	if (!tp) {
		__u64 key = (__u64)sk;
		struct stalls *st = config.stalls ? bpf_map_lookup_elem(&stalls, &key) : NULL;

		if (st) {
			to->known = 1;
			to->stalls = st->count;
		}
		return;
	}
	if (!config.segments)
		return;
	seg = find_segments(sk);
	if (!seg)
		return;
	__builtin_memcpy(to, &seg->sums, sizeof(*to));
	to->known = 1;
	if (seg->extremes_window != seg->window)
		to->rtt_min_us = to->rtt_max_us = to->distance_max = 0;
	if (!seg->is_over) {
		rtt = sample(tp, seg);
		if (rtt) {
			add_sample(to, rtt);
			if (seg->extremes_window == seg->window ||
			    seg->told_srtt_us8 != tp->srtt_us || seg->told_mdev_us4 != tp->mdev_us ||
			    seg->told_delivered != tp->delivered)
				add_extremes(to, rtt);
		}
		if (was_ahead(tp, seg)) {
			add_distance(to, seg);
			if (!seg->ahead_told)
				add_furthest(to, seg);
			seg->ahead_told |= ends_window;
		}
		if (shuts(tp, seg))
			to->zero_windows++;
	}
	if (!ends_window)
		return;
	seg->told_srtt_us8 = tp->srtt_us;
	seg->told_mdev_us4 = tp->mdev_us;
	seg->told_delivered = tp->delivered;
	seg->window++;
}

/* Before a segment of an established connection is looked at. */
SEC("tp_btf/tcp_probe")
int BPF_PROG(flow_segment, struct sock *sk, struct sk_buff *skb)
{
	struct segments *seg = find_segments(sk);
	struct skb_shared_info *shared;
	const struct tcp_sock *tp;
	struct tcp_skb_cb *cb;
	__u32 seq, ahead;

	if (!seg)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	settle(tp, seg);
	cb = (void *)skb->cb;
	seq = cb->seq;
	ahead = seq - tp->rcv_nxt;
	if ((__s32)ahead <= 0 || seq == cb->end_seq)
		return 0;
	shared = (void *)(BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end));
	seg->ahead = ahead;
	seg->ahead_count = BPF_CORE_READ(shared, gso_segs);
	seg->ahead_size = BPF_CORE_READ(shared, gso_size);
	if (!seg->ahead_count)
		seg->ahead_count = 1;
	seg->ooopack = tp->rcv_ooopack;
	seg->ahead_told = 0;
	return 0;
}

/* Before data that a path has received becomes data of its connection. */
SEC("tp_btf/subflow_check_data_avail")
int BPF_PROG(flow_stall, __u8 status, struct sk_buff *skb)
{
	/* There may be none: then all that follows is read as 0. */
	struct inet_connection_sock *path = (void *)BPF_CORE_READ(skb, sk);
	struct mptcp_subflow_context *sub = BPF_CORE_READ(path, icsk_ulp_data);
	struct mptcp_sock *msk = (void *)BPF_CORE_READ(sub, conn);
	__u64 key = (__u64)msk;
	struct stalls *st = bpf_map_lookup_elem(&stalls, &key);

	if (!st)
		return 0;
	if (!BPF_CORE_READ(msk, out_of_order_queue.rb_node))
		st->is_stalled = 0;
	else if (!st->is_stalled) {
		st->is_stalled = 1;
		st->count++;
	}
	return 0;
}

#endif
