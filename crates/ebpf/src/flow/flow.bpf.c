// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
/*
 * Flow probes: they keep what the kernel does not about every TCP connection of the host in socket
 * storage, and tell user space at the events of a connection's life how it fared. Nothing here runs
 * for each segment but what segments.h has, which is off unless asked for.
 */
#include "kernel/tcp.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "../ring.h"
#include "flow/event.h"
#include "flow/state.h"
#include "flow/segments.h"
#include "flow/fill.h"

char LICENSE[] SEC("license") = "GPL";

/* Counts a connection, unless it may turn out to be none of those that were asked for. */
static __always_inline void count(__u32 flags)
{
	if (!(flags & ST_UNCHECKED))
		ADD(connections, 1);
}

/*
 * Tells user space, if the ring has room; else the gap in the sequence tells. False if the connection
 * is none of those that were asked for.
 */
static __always_inline bool tell(const struct sock *sk, const struct tcp_sock *tp, struct state *st,
				 __u8 kind, int old, int new)
{
	__u64 now = bpf_ktime_get_ns(), len = wide() ? sizeof(struct flow_wide_event) : sizeof(struct flow_event);
	struct flow_event *e;

	if (st->flags & ST_UNCHECKED) {
		__u8 flags = 0;

		st->flags &= ~ST_UNCHECKED;
		if (!admit_addresses(sk, &flags)) {
			st->flags = ST_IGNORED;
			return false;
		}
		count(st->flags);
	}
	st->window_at = now;
	if (tp) {
		st->window_segs = tp->segs_in + tp->segs_out;
		if (st->seen_segs != st->window_segs) {
			st->seen_segs = st->window_segs;
			st->seen_at = now;
		}
	}
	e = bpf_ringbuf_reserve(&events, wide() ? sizeof(struct flow_wide_event) : sizeof(*e), 0);
	if (!e) {
		st->sequence++;
		ADD(dropped, st->opened_at ? 2 : 1);
		st->opened_at = 0;
		return true;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->at = now;
	e->old_state = old;
	e->new_state = new;
	fill_common(e, sk, st);
	if (tp)
		fill_tcp(e, tp, st);
	else
		fill_meta(e, sk);
	if (wide())
		fill_segments(&((struct flow_wide_event *)e)->segments, sk, tp, true);
	st->opened_at = 0;
	st->sequence++;
	if (wakes(&events, config.watermark, len)) {
		ADD(wakes, 1);
		bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	} else {
		bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	}
	return true;
}

static __always_inline void begin(const struct sock *sk, struct state *st, __u32 flags, __u64 now)
{
	/* A pass may look at it: it is nobody's until all is written. */
	__sync_lock_test_and_set(&st->flags, 0);
	__builtin_memset(st, 0, offsetof(struct state, pid));
	st->pass = 0;
	st->cookie = bpf_get_socket_cookie((void *)sk);
	st->flags_tag = st->sequence_tag = st->cookie;
	st->seen_at = st->window_at = now;
	st->flags = flags;
}

/* The states of both TCP and MPTCP sockets. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(flow_state, const struct sock *sk, int old, int new)
{
	__u16 protocol = sk->sk_protocol;
	const struct tcp_sock *tp = NULL;
	struct state *st;
	__u64 now;
	__u8 flags;

	if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_MPTCP)
		return 0;
	if (protocol == PROTOCOL_TCP && old == TCP_ESTABLISHED)
		end_segments(sk);
	switch (new) {
	case TCP_LISTEN:
		st = create(sk);
		if (st) {
			begin(sk, st, 0, bpf_ktime_get_ns());
			note_owner(st);
			st->flags = ST_LISTENER;
		}
		return 0;
	case TCP_SYN_SENT:
		flags = ST_ACTIVE | ST_OPEN;
		if (!admit(sk, &flags))
			return 0;
		st = create(sk);
		if (st) {
			begin(sk, st, flags, bpf_ktime_get_ns());
			st->syn_at = st->window_at;
			note_owner(st);
			count(flags);
		}
		return 0;
	case TCP_SYN_RECV:
		if ((config.table_shift || config.by_address) && protocol == PROTOCOL_TCP && old == TCP_LISTEN)
			inherit(sk);
		return 0;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		/* Whoever closes the socket is its owner; a worker may have it from its listener. */
		st = tracked(sk);
		if (st) {
			note_owner(st);
			st->closing_at = bpf_ktime_get_ns();
		}
		return 0;
	case TCP_ESTABLISHED:
	case TCP_CLOSE:
		break;
	default:
		return 0;
	}

	if (protocol == PROTOCOL_TCP) {
		tp = bpf_skc_to_tcp_sock((void *)sk);
		if (!tp)
			return 0;
	}
	if (new == TCP_ESTABLISHED) {
		now = bpf_ktime_get_ns();
		st = find(sk);
		/* Where an end was left out, it may be another socket's. */
		if (!st || !(st->flags & ST_OPEN) || st->cookie != bpf_get_socket_cookie((void *)sk)) {
			/* What a listener begot; a SYN of this host that was not admitted is none. */
			if (protocol == PROTOCOL_TCP && old != TCP_SYN_RECV)
				return 0;
			if (protocol == PROTOCOL_MPTCP && old == TCP_SYN_SENT)
				return 0;
			flags = ST_PASSIVE | ST_OPEN;
			if (!admit(sk, &flags)) {
				if (st)
					forget(sk, st);
				return 0;
			}
			if (!st)
				st = create(sk);
			if (!st)
				return 0;
			begin(sk, st, flags, now);
			if (config.by_address && protocol == PROTOCOL_MPTCP)
				inherit_from_path(sk, st);
			count(flags);
		}
		if (tp) {
			begin_segments(sk, tp);
			if (!keep_opening(tp, st, now))
				tell(sk, tp, st, EVENT_ESTABLISHED, old, new);
		} else {
			/* It has no handshake but those of its paths, and no addresses yet. */
			st->syn_at = now;
			begin_stalls(sk);
		}
		return 0;
	}
	st = find(sk);
	if (!st)
		return 0;
	if (!(st->flags & ST_OPEN)) {
		take_out_segments(sk);
		forget(sk, st);
		return 0;
	}
	/* Before the reader may see the event: a pass that begins after it finds the connection ended. */
	st->flags |= ST_ENDED;
	if (tell(sk, tp, st, EVENT_CLOSED, old, new))
		ADD(ended, 1);
	if (!tp)
		end_stalls(sk);
	take_out_segments(sk);
	forget(sk, st);
	return 0;
}

SEC("tp_btf/tcp_cong_state_set")
int BPF_PROG(flow_congestion, struct sock *sk, const __u8 new)
{
	const struct tcp_sock *tp;
	struct state *st;
	__u8 old, state;

	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	/* Not yet overwritten. */
	old = BPF_CORE_READ_BITFIELD(&tp->inet_conn, icsk_ca_state);
	if (new == old && new != TCP_CA_LOSS)
		return 0;
	st = tracked(sk);
	if (!st)
		return 0;
	state = sk->__sk_common.skc_state;
	/* The handshake has timeouts of its own. */
	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV || state == TCP_CLOSE)
		return 0;
	if (new == TCP_CA_LOSS) {
		if (!(st->flags & ST_LOSSY)) {
			tell(sk, tp, st, EVENT_LOSSY_ENTERED, state, state);
			st->flags |= ST_LOSSY;
		}
		st->rtos++;
		return 0;
	}
	if (new == TCP_CA_RECOVERY)
		st->fast_recoveries++;
	if (st->flags & ST_LOSSY) {
		tell(sk, tp, st, EVENT_LOSSY_LEFT, state, state);
		st->flags &= ~ST_LOSSY;
	}
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(flow_retransmit, const struct sock *sk)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct state *st;

	/* The timer may also wait while an acknowledgement makes the stack retransmit. */
	if (!tp || tp->inet_conn.icsk_pending != ICSK_TIME_LOSS_PROBE ||
	    BPF_CORE_READ_BITFIELD(&tp->inet_conn, icsk_ca_state) >= TCP_CA_RECOVERY)
		return 0;
	st = tracked(sk);
	if (st)
		st->tail_loss_probes++;
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(flow_reset_received, struct sock *sk)
{
	struct state *st = tracked(sk);

	if (st)
		st->resets_received++;
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(flow_reset_sent, const struct sock *sk)
{
	struct state *st;

	if (!sk)
		return 0;
	st = tracked(sk);
	if (st)
		st->resets_sent++;
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(flow_drop, struct sk_buff *skb, void *location, enum skb_drop_reason reason,
	     struct sock *sk)
{
	struct tcp_skb_cb *cb;
	struct state *st;
	__u32 bytes;
	__u16 segments;
	__u8 flags;

	if (reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TCP_OLD_DATA) &&
	    reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TCP_OLD_SEQUENCE) &&
	    reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TCP_OFOMERGE))
		return 0;
	if (!sk)
		return 0;
	st = tracked(sk);
	if (!st)
		return 0;
	cb = (void *)skb->cb;
	bytes = BPF_CORE_READ(cb, end_seq) - BPF_CORE_READ(cb, seq);
	flags = BPF_CORE_READ(cb, tcp_flags);
	if (flags & TCPHDR_FIN)
		bytes--;
	if (flags & TCPHDR_SYN)
		bytes--;
	if ((__s32)bytes <= 0)
		return 0;
	segments = BPF_CORE_READ(cb, tcp_gso_segs);
	st->duplicates += segments ? segments : 1;
	st->duplicate_bytes += bytes;
	return 0;
}

static __always_inline void describe(struct flow_event *e, const struct sock *sk,
				     const struct tcp_sock *tp, struct state *st, __u8 kind)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->at = bpf_ktime_get_ns();
	e->old_state = e->new_state = sk->__sk_common.skc_state;
	fill_common(e, sk, st);
	if (tp)
		fill_tcp(e, tp, st);
	else
		fill_meta(e, sk);
	if (wide())
		fill_segments(&((struct flow_wide_event *)e)->segments, sk, tp,
			      kind != EVENT_LOOK && kind != EVENT_OPENED);
}

/* Tells whoever runs an iterator. */
static __always_inline void write_event(struct seq_file *seq, const struct sock *sk,
					const struct tcp_sock *tp, struct state *st, __u8 kind)
{
	__u32 zero = 0;
	struct flow_wide_event *told = bpf_map_lookup_elem(&scratch, &zero);

	if (!told)
		return;
	describe(&told->event, sk, tp, st, kind);
	bpf_seq_write(seq, told, wide() ? sizeof(*told) : sizeof(told->event));
}

static __always_inline bool is_open(const struct state *st)
{
	return (*(volatile __u32 *)&st->flags & (ST_OPEN | ST_ENDED)) == ST_OPEN;
}

/* What became of what a pass had to tell. */
enum passed_on {
	TOLD = 0,
	/* There is no room until the rest has been read: the connection is to be met again. */
	AGAIN = 1, /* as the kernel has it */
	/* It is ending, and that tells all. */
	GONE,
};

/*
 * Tells whoever goes over the connections.
 *
 * Nothing holds the socket: while this runs it may end, and its memory become another one's. As long as
 * its end has not begun to be told, it was itself that has been described. So with its state, where that
 * is in the table.
 */
static __always_inline enum passed_on pass_on(const struct sock *sk, const struct tcp_sock *tp,
					      struct state *st, __u8 kind)
{
	__u64 cookie = *(volatile __u64 *)&st->cookie;
	struct flow_event *e;

	e = bpf_ringbuf_reserve(&passed, wide() ? sizeof(struct flow_wide_event) : sizeof(*e), 0);
	if (!e)
		return AGAIN;
	describe(e, sk, tp, st, kind);
	if (!is_open(st) || *(volatile __u64 *)&st->cookie != cookie) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return GONE;
	}
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return TOLD;
}

/* Gives storage to the connections and listeners that were there before, with their processes. */
SEC("iter/task_file")
int flow_baseline(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	const struct tcp_sock *tp;
	struct socket *socket;
	struct state *st;
	struct sock *sk;
	__u8 flags = ST_OPEN, state;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	state = sk->__sk_common.skc_state;
	if (state == TCP_CLOSE || state == TCP_SYN_SENT)
		return 0;
	if (find(sk))
		return 0;
	if (state == TCP_LISTEN) {
		st = create(sk);
		if (st) {
			begin(sk, st, 0, bpf_ktime_get_ns());
			own(st, task);
			st->flags = ST_LISTENER;
		}
		return 0;
	}
	if (!admit(sk, &flags))
		return 0;
	/* What was there before may stay for long: the table is for those that come and go. */
	st = create_apart(sk);
	if (!st)
		return 0;
	own(st, task);
	st->cookie = bpf_get_socket_cookie(sk);
	st->window_at = st->seen_at = bpf_ktime_get_ns();
	st->window_segs = st->seen_segs = tp->segs_in + tp->segs_out;
	st->flags = flags;
	ADD(connections, 1);
	begin_segments(sk, tp);
	write_event(ctx->meta->seq, sk, tp, st, EVENT_BASELINE);
	return 0;
}

/* Tells how a connection stands, opening ones included, and leaves its window as it is. */
static __always_inline enum passed_on look_at(const struct sock *sk, const struct tcp_sock *tp,
					      struct state *st)
{
	__u8 flags = 0;

	if (sk->__sk_common.skc_state == TCP_CLOSE)
		return GONE;
	if (!tp && sk->sk_protocol != PROTOCOL_MPTCP)
		return GONE;
	if ((st->flags & ST_UNCHECKED) && (!admit_addresses(sk, &flags) || flags))
		return GONE;
	return pass_on(sk, tp, st, EVENT_LOOK);
}

/* Tells what has lasted, idled, lost its application, or is to be ended. True if it is to be met again. */
static __always_inline bool go_by(const struct sock *sk, const struct tcp_sock *tp, struct state *st)
{
	__u64 now = bpf_ktime_get_ns(), opened_at = st->opened_at;
	struct pass *pass;
	__u64 mark = st->mark, number = st->number;
	__u32 segs, zero = 0;
	enum passed_on outcome;
	__u8 kind, state;

	pass = bpf_map_lookup_elem(&passes, &zero);
	if (!pass)
		return false;
	if (pass->looking)
		return look_at(sk, tp, st) == AGAIN;
	if (!tp || (st->flags & ST_UNCHECKED))
		return false;
	state = sk->__sk_common.skc_state;
	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV || state == TCP_CLOSE)
		return false;
	segs = tp->segs_in + tp->segs_out;
	if (segs != st->seen_segs) {
		st->seen_segs = segs;
		st->seen_at = now;
	}
	if (pass->stopping)
		kind = EVENT_STOPPED;
	else if (opened_at) {
		outcome = pass_on(sk, tp, st, EVENT_OPENED);
		if (outcome == TOLD)
			__sync_val_compare_and_swap(&st->opened_at, opened_at, 0);
		return outcome == AGAIN;
	} else if ((sk->__sk_common.skc_flags & (1UL << SOCK_DEAD)) && state != TCP_FIN_WAIT2 &&
		 st->closing_at && !(st->flags & ST_ORPHANED) &&
		 now - st->closing_at >= pass->orphan_ns)
		kind = EVENT_ORPHANED;
	else if (segs == st->window_segs)
		return false;
	else if (now - st->window_at >= pass->active_ns)
		kind = EVENT_ACTIVE_TIMEOUT;
	else if (now - st->seen_at >= pass->idle_ns)
		kind = EVENT_IDLE_TIMEOUT;
	else
		return false;
	outcome = pass_on(sk, tp, st, kind);
	if (outcome != TOLD)
		return outcome == AGAIN;
	if (__sync_val_compare_and_swap(&st->number, number, number + 1) != number)
		return false;
	if (kind == EVENT_ORPHANED)
		__sync_val_compare_and_swap(&st->mark, mark, mark | ST_ORPHANED);
	if (opened_at)
		__sync_val_compare_and_swap(&st->opened_at, opened_at, 0);
	st->window_at = now;
	st->window_segs = segs;
	return false;
}

/* A pass over the connections whose sockets have storage. */
SEC("iter/bpf_sk_storage_map")
int flow_pass(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct state *st = ctx->value;
	struct sock *sk = ctx->sk;

	if (!sk || !st || !is_open(st))
		return 0;
	return go_by(sk, bpf_skc_to_tcp_sock(sk), st);
}

#include "flow/walk.h"
