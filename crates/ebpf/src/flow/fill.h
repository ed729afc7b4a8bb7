/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * How a connection fares, as its socket says.
 */
#ifndef PLUMB_FLOW_FILL_H
#define PLUMB_FLOW_FILL_H

/* What both a connection and a multipath connection have. */
static __always_inline void fill_common(struct flow_event *e, const struct sock *sk, struct state *st)
{
	e->cookie = st->cookie;
	e->syn_at = st->syn_at;
	e->cgroup = cgroup_id(sk);
	e->sequence = st->sequence;
	e->netns = sk->__sk_common.skc_net.net->ns.inum;
	e->pid = st->pid;
	e->error = sk->sk_err;
	e->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	e->flags = st->flags & (ST_ACTIVE | ST_PASSIVE | ST_LOSSY);
	if (sk->__sk_common.skc_flags & (1UL << SOCK_DONE))
		e->flags |= FLAG_FIN_RECEIVED;
	e->family = sk->__sk_common.skc_family;
	addresses(sk, e->local, e->remote);
	__builtin_memcpy(e->comm, st->comm, sizeof(e->comm));
	e->opened_at = st->opened_at;
	if (st->opened_at) {
		e->opened_segs_out = st->opened_segs_out;
		e->opened_segs_in = st->opened_segs_in;
		e->opened_srtt_us8 = st->opened_srtt_us8;
		e->opened_mdev_us4 = st->opened_mdev_us4;
		e->opened_min_rtt_us = st->opened_min_rtt_us;
		e->opened_cwnd = st->opened_cwnd;
		e->opened_mss = st->opened_mss;
		e->opened_snd_wnd = st->opened_snd_wnd;
		e->opened_rcvbuf = st->opened_rcvbuf;
	}
}

static __always_inline void fill_tcp(struct flow_event *e, const struct tcp_sock *tp, struct state *st)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	const struct sock *sk = &icsk->icsk_inet.sk;

	e->local_port = bpf_ntohs(icsk->icsk_inet.inet_sport);
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
	copy_name(e->congestion, icsk->icsk_ca_ops->name);
	/* All that was written is acknowledged, and in these states a FIN came last. */
	if (tp->snd_una == tp->write_seq &&
	    (e->old_state == TCP_FIN_WAIT1 || e->old_state == TCP_FIN_WAIT2 ||
	     e->old_state == TCP_CLOSING || e->old_state == TCP_LAST_ACK))
		e->flags |= FLAG_FIN_ACKED;
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

/*
 * Keeps how a handshake ended, to be told with the connection's next event, which for a short one is
 * its last: an event less for each. False for what is not as usual.
 */
static __always_inline bool keep_opening(const struct tcp_sock *tp, struct state *st, __u64 now)
{
	if (tp->total_retrans || tp->bytes_sent || tp->bytes_received || st->flags & ST_UNCHECKED)
		return false;
	if (bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp)
		return false;
	st->opened_at = now;
	st->opened_segs_out = tp->segs_out;
	st->opened_segs_in = tp->segs_in;
	st->opened_srtt_us8 = tp->srtt_us;
	st->opened_mdev_us4 = tp->mdev_us;
	st->opened_min_rtt_us = tp->rtt_min.s[0].v;
	st->opened_cwnd = tp->snd_cwnd;
	st->opened_mss = tp->mss_cache;
	st->opened_snd_wnd = tp->snd_wnd;
	st->opened_rcvbuf = tp->inet_conn.icsk_inet.sk.sk_rcvbuf;
	st->window_at = st->seen_at = st->opened_at;
	st->window_segs = st->seen_segs = tp->segs_in + tp->segs_out;
	st->sequence = 1;
	return true;
}

static __always_inline void fill_meta(struct flow_event *e, const struct sock *sk)
{
	struct mptcp_sock *msk = (void *)sk;
	struct mptcp_pm_data___before *before = (void *)&msk->pm;

	e->local_port = local_port(sk);
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

#endif
