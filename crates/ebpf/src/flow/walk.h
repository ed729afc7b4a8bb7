/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * Passes over the connections whose sockets are known by nothing but their addresses. Nothing holds such a
 * socket: what was its memory may be anything's by now.
 */
#ifndef PLUMB_FLOW_WALK_H
#define PLUMB_FLOW_WALK_H

/* How long a socket may take to get where the event that changed its entry said. */
#define SETTLING_NS 1000000000ULL

/*
 * Ends an entry whose socket is gone, though the kernel left out the event that tells so. No two sockets have
 * the same cookie. Some children of listeners are dropped without an event; one that is not loses but its
 * process.
 */
static __always_inline bool end_stale(struct state *st, const struct sock *sk)
{
	__u64 mark = *(volatile __u64 *)&st->mark;

	/* Just being begun, or ended. */
	if (!(mark & (ST_OPEN | ST_LISTENER | ST_BEGOT)))
		return false;
	if (!(mark & ST_BEGOT) && sk->__sk_common.skc_state != TCP_CLOSE &&
	    sk->__sk_common.skc_cookie.counter == st->cookie)
		return false;
	if (bpf_ktime_get_ns() - st->window_at < SETTLING_NS)
		return false;
	if (__sync_val_compare_and_swap(&st->mark, mark, ST_IGNORED) != mark)
		return false;
	take_out_segments(sk);
	return true;
}

/* Goes by one, once in a pass. GONE: it is to be taken out. */
static __always_inline enum passed_on go_by_address(__u64 key, struct state *st)
{
	const struct sock *sk = bpf_rdonly_cast((void *)key, bpf_core_type_id_kernel(struct sock));
	const struct tcp_sock *tp = NULL;
	struct pass *pass;
	__u32 zero = 0;

	pass = bpf_map_lookup_elem(&passes, &zero);
	if (!pass || st->pass == (__u32)pass->number)
		return TOLD;
	if (end_stale(st, sk))
		return GONE;
	if (!is_open(st))
		return TOLD;
	if (sk->sk_protocol == PROTOCOL_TCP)
		tp = bpf_rdonly_cast((void *)key, bpf_core_type_id_kernel(struct tcp_sock));
	if (go_by(sk, tp, st))
		return AGAIN;
	st->pass = pass->number;
	return TOLD;
}

/* All of a bucket. True if some are to be met again. */
static __always_inline bool go_by_bucket(struct bucket *bucket)
{
	for (int n = 0; n < WAYS; n++) {
		__u64 key = bucket->keys[n];
		enum passed_on outcome = key ? go_by_address(key, &bucket->states[n]) : TOLD;

		if (outcome == AGAIN)
			return true;
		if (outcome == GONE)
			__sync_val_compare_and_swap(&bucket->keys[n], key, 0);
	}
	return false;
}

/* A pass over the connections in the table. */
SEC("iter/bpf_map_elem")
int flow_table(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *at = ctx->key, index;
	struct bucket *bucket;

	if (!config.table_shift || !at)
		return 0;
	index = *at;
	bucket = bpf_map_lookup_elem(&table, &index);
	return bucket && go_by_bucket(bucket) ? 1 : 0;
}

static long walk_bucket(void *map, const __u32 *at, struct bucket *bucket, int *again)
{
	*again = go_by_bucket(bucket);
	return *again;
}

static long walk_entry(void *map, const __u64 *at, struct state *st, int *again)
{
	__u64 key = *at;
	enum passed_on outcome = go_by_address(key, st);

	if (outcome == GONE)
		bpf_map_delete_elem(&states_by_address, &key);
	*again = outcome == AGAIN;
	return *again;
}

/*
 * A pass over all that is found by address, for a kernel that lets no program iterate over what a map has.
 * What it lets iterate over the maps themselves is run for the first of them.
 */
SEC("iter/bpf_map")
int flow_walk(struct bpf_iter__bpf_map *ctx)
{
	struct pass *pass;
	int again = 0;
	__u32 zero = 0;

	pass = bpf_map_lookup_elem(&passes, &zero);
	if (!pass || pass->walked == pass->number)
		return 0;
	if (config.table_shift)
		bpf_for_each_map_elem(&table, walk_bucket, &again, 0);
	if (!again)
		bpf_for_each_map_elem(&states_by_address, walk_entry, &again, 0);
	if (!again)
		pass->walked = pass->number;
	return again ? 1 : 0;
}

#endif
