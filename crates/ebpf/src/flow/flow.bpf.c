// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
/*
 * Flow probes: they keep what the kernel does not about every TCP connection of the host in socket
 * storage, and tell user space at the events of a connection's life how it fared. Nothing here runs
 * for each segment.
 */
#include "kernel/tcp.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "flow/event.h"

char LICENSE[] SEC("license") = "GPL";

/* What user space sets before the programs are loaded. 0 means: any. */
const volatile struct settings {
	__u64 cgroup;
	__u32 netns;
	__u32 sample; /* one connection in so many */
	__u32 ports;
	__u32 prefixes;
	__u32 watermark; /* bytes in the ring that wake the reader */
} config = {};

/* For the loader's check that both sides mean the same. */
const volatile __u32 event_size = sizeof(struct flow_event);

/* What user space reads. */
struct {
	__u64 dropped; /* events that found the ring full */
	__u64 connections; /* that were given storage, from the start on */
	__u64 ended; /* of these */
	__u64 untracked; /* connections that could not be given storage */
} counts = {};

/* What user space sets before a pass over the connections. */
struct pass {
	__u64 active_ns;
	__u64 idle_ns;
	__u64 orphan_ns;
	__u64 stopping;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pass);
} passes SEC(".maps");

#define MAX_PORTS 1024
#define MAX_PREFIXES 1024

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u16);
	__type(value, __u8);
} ports SEC(".maps");

struct prefix {
	__u32 len;
	__u8 address[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PREFIXES);
	__type(key, struct prefix);
	__type(value, __u8);
} prefixes SEC(".maps");

#define ST_ACTIVE FLAG_ACTIVE
#define ST_PASSIVE FLAG_PASSIVE
#define ST_LOSSY FLAG_LOSSY
#define ST_LISTENER 0x08
#define ST_OPEN 0x10 /* events are told */
#define ST_IGNORED 0x20
#define ST_PORTS_UNKNOWN 0x40 /* the local port was not yet chosen when the connection was admitted */
#define ST_ORPHANED 0x80

/* What is kept about a connection, and about a listener for the connections that it begets. */
struct state {
	__u64 syn_at;
	__u64 window_at; /* when the open window began */
	__u64 seen_at; /* when segments had last been counted anew */
	__u64 closing_at; /* when this host closed its direction */
	__u64 duplicate_bytes;
	__u32 window_segs;
	__u32 seen_segs;
	__u32 sequence;
	__u32 duplicates;
	__u32 resets_sent;
	__u32 resets_received;
	__u32 rtos;
	__u32 fast_recoveries;
	__u32 tail_loss_probes;
	__u32 flags;
	/* The owner stays when a listener's state becomes a connection's. */
	__u32 pid;
	char comm[16];
};

/* A child inherits the state of its listener, and so knows its process. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_event);
} scratch SEC(".maps");

/* The process that runs, if one does: states also change where a packet or a kernel thread came by. */
static __always_inline void note_owner(struct state *st)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return;
	st->pid = bpf_get_current_pid_tgid() >> 32;
	BPF_CORE_READ_STR_INTO(&st->comm, task, group_leader, comm);
}

static __always_inline __u16 local_port(const struct sock *sk)
{
	/* The number in host order is gone when a socket has been closed. */
	return bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
}

static __always_inline bool has_port(__u16 port)
{
	return bpf_map_lookup_elem(&ports, &port) != NULL;
}

static __always_inline void addresses(const struct sock *sk, __u8 *local, __u8 *remote)
{
	if (sk->__sk_common.skc_family == AF_INET6) {
		__builtin_memcpy(local, &sk->__sk_common.skc_v6_rcv_saddr, 16);
		__builtin_memcpy(remote, &sk->__sk_common.skc_v6_daddr, 16);
	} else {
		__u32 near = sk->__sk_common.skc_rcv_saddr;
		__u32 far = sk->__sk_common.skc_daddr;

		__builtin_memset(local, 0, 10);
		__builtin_memset(remote, 0, 10);
		local[10] = local[11] = remote[10] = remote[11] = 0xff;
		__builtin_memcpy(local + 12, &near, 4);
		__builtin_memcpy(remote + 12, &far, 4);
	}
}

static __always_inline __u64 cgroup_id(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
}

/* Whether the socket belongs to the group or to one below it. */
static __always_inline bool in_cgroup(const struct sock *sk, __u64 id)
{
	struct cgroup *group = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);

	for (int depth = 0; depth < 12 && group; depth++) {
		struct cgroup_subsys_state *parent;

		if (BPF_CORE_READ(group, kn, id) == id)
			return true;
		parent = BPF_CORE_READ(group, self.parent);
		group = parent ? BPF_CORE_READ(parent, cgroup) : NULL;
	}
	return false;
}

/* Whether a connection is one that was asked for; flags may say that its port is yet to come. */
static __always_inline bool admit(const struct sock *sk, __u8 *flags)
{
	if (config.netns && sk->__sk_common.skc_net.net->ns.inum != config.netns)
		return false;
	if (config.ports) {
		__u16 near = local_port(sk);

		if (!has_port(bpf_ntohs(sk->__sk_common.skc_dport)) && !(near && has_port(near))) {
			if (near)
				return false;
			*flags |= ST_PORTS_UNKNOWN;
		}
	}
	if (config.prefixes) {
		struct prefix near = { .len = 128 }, far = { .len = 128 };

		addresses(sk, near.address, far.address);
		if (!bpf_map_lookup_elem(&prefixes, &near) && !bpf_map_lookup_elem(&prefixes, &far))
			return false;
	}
	if (config.cgroup && !in_cgroup(sk, config.cgroup))
		return false;
	if (config.sample > 1 && bpf_get_prandom_u32() % config.sample)
		return false;
	return true;
}

static __always_inline struct state *create(const struct sock *sk)
{
	struct state *st = bpf_sk_storage_get(&states, (void *)sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!st)
		__sync_fetch_and_add(&counts.untracked, 1);
	return st;
}

static __always_inline struct state *tracked(const struct sock *sk)
{
	struct state *st = bpf_sk_storage_get(&states, (void *)sk, 0, 0);

	return st && (st->flags & ST_OPEN) ? st : NULL;
}

/* What both a connection and a multipath connection have. */
static __always_inline void fill_common(struct flow_event *e, const struct sock *sk, struct state *st)
{
	e->cookie = bpf_get_socket_cookie((void *)sk);
	e->syn_at = st->syn_at;
	e->cgroup = cgroup_id(sk);
	e->sequence = st->sequence;
	e->netns = sk->__sk_common.skc_net.net->ns.inum;
	e->pid = st->pid;
	e->error = sk->sk_err;
	e->local_port = local_port(sk);
	e->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	e->flags = st->flags & (ST_ACTIVE | ST_PASSIVE | ST_LOSSY);
	if (sk->__sk_common.skc_flags & (1UL << SOCK_DONE))
		e->flags |= FLAG_FIN_RECEIVED;
	if (sk->__sk_common.skc_flags & (1UL << SOCK_DEAD))
		e->flags |= FLAG_DEAD;
	e->family = sk->__sk_common.skc_family;
	addresses(sk, e->local, e->remote);
	__builtin_memcpy(e->comm, st->comm, sizeof(e->comm));
}

static __always_inline void fill_tcp(struct flow_event *e, const struct tcp_sock *tp, struct state *st)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	const struct sock *sk = &icsk->icsk_inet.sk;

	e->bytes_sent = tp->bytes_sent;
	e->bytes_acked = tp->bytes_acked;
	e->bytes_received = tp->bytes_received;
	e->bytes_retrans = tp->bytes_retrans;
	e->duplicate_bytes = st->duplicate_bytes;
	e->pacing_rate = sk->sk_pacing_rate;
	e->pacing_status = sk->sk_pacing_status;
	e->segs_out = tp->segs_out;
	e->segs_in = tp->segs_in;
	e->data_segs_out = tp->data_segs_out;
	e->data_segs_in = tp->data_segs_in;
	e->total_retrans = tp->total_retrans;
	e->lost = tp->lost;
	e->rtos = bpf_core_field_exists(tp->total_rto) ? tp->total_rto : st->rtos;
	e->fast_recoveries = st->fast_recoveries;
	e->tail_loss_probes = st->tail_loss_probes;
	e->dsack_dups = tp->dsack_dups;
	e->reord_seen = tp->reord_seen;
	if (bpf_core_field_exists(tp->rcv_ooopack))
		e->rcv_ooopack = tp->rcv_ooopack;
	e->duplicates = st->duplicates;
	e->resets_sent = st->resets_sent;
	e->resets_received = st->resets_received;
	e->srtt_us8 = tp->srtt_us;
	e->mdev_us4 = tp->mdev_us;
	e->min_rtt_us = tp->rtt_min.s[0].v;
	e->rcv_rtt_us8 = tp->rcv_rtt_est.rtt_us;
	for (int i = 0; i < 3; i++)
		e->busy[i] = tp->chrono_stat[i];
	__u8 running = BPF_CORE_READ_BITFIELD(tp, chrono_type);
	__u32 since;

	e->jiffies = bpf_jiffies64();
	since = e->jiffies - tp->chrono_start;
	if (running == 1)
		e->busy[0] += since;
	else if (running == 2)
		e->busy[1] += since;
	else if (running == 3)
		e->busy[2] += since;
	e->delivered_ce = tp->delivered_ce;
	e->ecn = tp->ecn_flags & TCP_ECN_OK;
	e->mss = tp->mss_cache;
	e->pmtu = icsk->icsk_pmtu_cookie;
	e->cwnd = tp->snd_cwnd;
	e->snd_wnd = tp->snd_wnd;
	e->rcvbuf = sk->sk_rcvbuf;
	e->probes_out = icsk->icsk_probes_out;
	e->rate_delivered = tp->rate_delivered;
	e->rate_interval_us = tp->rate_interval_us;
	bpf_probe_read_kernel_str(e->congestion, sizeof(e->congestion), icsk->icsk_ca_ops->name);
	if (bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp) {
		struct mptcp_subflow_context *sub = icsk->icsk_ulp_data;

		if (sub) {
			e->flags |= FLAG_SUBFLOW;
			e->token = BPF_CORE_READ(sub, token);
			if (bpf_core_field_exists(sub->subflow_id))
				e->path_index = BPF_CORE_READ(sub, subflow_id);
			e->local_id = BPF_CORE_READ(sub, local_id);
			e->remote_id = BPF_CORE_READ(sub, remote_id);
			if (BPF_CORE_READ_BITFIELD_PROBED(sub, backup))
				e->flags |= FLAG_BACKUP;
		}
	}
}

static __always_inline void fill_meta(struct flow_event *e, const struct sock *sk)
{
	struct mptcp_sock *msk = (void *)sk;
	struct mptcp_pm_data___before *before = (void *)&msk->pm;

	e->flags |= FLAG_META;
	e->token = BPF_CORE_READ(msk, token);
	e->bytes_sent = BPF_CORE_READ(msk, bytes_sent);
	e->bytes_received = BPF_CORE_READ(msk, bytes_received);
	e->bytes_acked = BPF_CORE_READ(msk, bytes_acked);
	e->bytes_retrans = BPF_CORE_READ(msk, bytes_retrans);
	if (bpf_core_field_exists(msk->pm.extra_subflows))
		e->subflows = BPF_CORE_READ(msk, pm.extra_subflows) + 1;
	else if (bpf_core_field_exists(before->subflows))
		e->subflows = BPF_CORE_READ(before, subflows) + 1;
}

/* Tells user space, if the ring has room; else the gap in the sequence tells. */
static __always_inline void tell(const struct sock *sk, const struct tcp_sock *tp, struct state *st,
				 __u8 kind, int old, int new)
{
	struct flow_event *e;
	__u64 now = bpf_ktime_get_ns();

	if (st->flags & ST_PORTS_UNKNOWN) {
		st->flags &= ~ST_PORTS_UNKNOWN;
		if (!has_port(local_port(sk))) {
			st->flags = ST_IGNORED;
			return;
		}
	}
	st->window_at = now;
	if (tp) {
		st->window_segs = tp->segs_in + tp->segs_out;
		if (st->seen_segs != st->window_segs) {
			st->seen_segs = st->window_segs;
			st->seen_at = now;
		}
	}
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		st->sequence++;
		__sync_fetch_and_add(&counts.dropped, 1);
		return;
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
	st->sequence++;
	/* A wake-up for each event would cost more than all else here. */
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= config.watermark)
		bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	else
		bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

static __always_inline void begin(struct state *st, __u8 flags)
{
	__builtin_memset(st, 0, offsetof(struct state, pid));
	st->flags = flags;
	st->seen_at = st->window_at = bpf_ktime_get_ns();
}

/* The states of both TCP and MPTCP sockets. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(flow_state, const struct sock *sk, int old, int new)
{
	__u16 protocol = sk->sk_protocol;
	const struct tcp_sock *tp = NULL;
	struct state *st;
	__u8 flags;

	if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_MPTCP)
		return 0;
	switch (new) {
	case TCP_LISTEN:
		st = create(sk);
		if (st) {
			__builtin_memset(st, 0, sizeof(*st));
			st->flags = ST_LISTENER;
			note_owner(st);
		}
		return 0;
	case TCP_SYN_SENT:
		flags = ST_ACTIVE | ST_OPEN;
		if (!admit(sk, &flags))
			return 0;
		st = create(sk);
		if (st) {
			begin(st, flags);
			st->syn_at = st->window_at;
			note_owner(st);
			__sync_fetch_and_add(&counts.connections, 1);
		}
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
		st = bpf_sk_storage_get(&states, (void *)sk, 0, 0);
		if (!st || !(st->flags & ST_OPEN)) {
			/* What a listener begot; a SYN of this host that was not admitted is none. */
			if (protocol == PROTOCOL_TCP && old != TCP_SYN_RECV)
				return 0;
			if (protocol == PROTOCOL_MPTCP && old == TCP_SYN_SENT)
				return 0;
			flags = ST_PASSIVE | ST_OPEN;
			if (!admit(sk, &flags)) {
				if (st)
					st->flags = ST_IGNORED;
				return 0;
			}
			if (!st)
				st = create(sk);
			if (!st)
				return 0;
			begin(st, flags);
			__sync_fetch_and_add(&counts.connections, 1);
		}
		tell(sk, tp, st, EVENT_ESTABLISHED, old, new);
		return 0;
	}
	st = tracked(sk);
	if (!st)
		return 0;
	tell(sk, tp, st, EVENT_CLOSED, old, new);
	st->flags = ST_IGNORED;
	__sync_fetch_and_add(&counts.ended, 1);
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

	if (!tp || tp->inet_conn.icsk_pending != ICSK_TIME_LOSS_PROBE)
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

static __always_inline void write_event(struct seq_file *seq, const struct sock *sk,
					const struct tcp_sock *tp, struct state *st, __u8 kind)
{
	__u32 zero = 0;
	struct flow_event *e = bpf_map_lookup_elem(&scratch, &zero);

	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->at = bpf_ktime_get_ns();
	e->old_state = e->new_state = sk->__sk_common.skc_state;
	fill_common(e, sk, st);
	fill_tcp(e, tp, st);
	bpf_seq_write(seq, e, sizeof(*e));
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
	if (bpf_sk_storage_get(&states, sk, 0, 0))
		return 0;
	if (state != TCP_LISTEN && !admit(sk, &flags))
		return 0;
	st = create(sk);
	if (!st)
		return 0;
	st->pid = task->tgid;
	BPF_CORE_READ_STR_INTO(&st->comm, task, group_leader, comm);
	if (state == TCP_LISTEN) {
		st->flags = ST_LISTENER;
		return 0;
	}
	st->window_at = st->seen_at = bpf_ktime_get_ns();
	st->window_segs = st->seen_segs = tp->segs_in + tp->segs_out;
	st->flags = flags;
	__sync_fetch_and_add(&counts.connections, 1);
	write_event(ctx->meta->seq, sk, tp, st, EVENT_BASELINE);
	return 0;
}

/* A pass over all connections: what has lasted, idled, lost its application, or is to be ended. */
SEC("iter/bpf_sk_storage_map")
int flow_pass(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct state *st = ctx->value;
	struct sock *sk = ctx->sk;
	const struct tcp_sock *tp;
	__u64 now = bpf_ktime_get_ns();
	struct pass *pass;
	__u32 segs, zero = 0;
	__u8 kind, state;

	if (!sk || !st || !(st->flags & ST_OPEN))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	state = sk->__sk_common.skc_state;
	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV || state == TCP_CLOSE)
		return 0;
	pass = bpf_map_lookup_elem(&passes, &zero);
	if (!pass)
		return 0;
	segs = tp->segs_in + tp->segs_out;
	if (segs != st->seen_segs) {
		st->seen_segs = segs;
		st->seen_at = now;
	}
	if (pass->stopping)
		kind = EVENT_STOPPED;
	else if ((sk->__sk_common.skc_flags & (1UL << SOCK_DEAD)) && state != TCP_FIN_WAIT2 &&
		 st->closing_at && !(st->flags & ST_ORPHANED) &&
		 now - st->closing_at >= pass->orphan_ns) {
		st->flags |= ST_ORPHANED;
		kind = EVENT_ORPHANED;
	} else if (segs == st->window_segs)
		return 0;
	else if (now - st->window_at >= pass->active_ns)
		kind = EVENT_ACTIVE_TIMEOUT;
	else if (now - st->seen_at >= pass->idle_ns)
		kind = EVENT_IDLE_TIMEOUT;
	else
		return 0;
	write_event(ctx->meta->seq, sk, tp, st, kind);
	st->sequence++;
	st->window_at = now;
	st->window_segs = segs;
	return 0;
}
