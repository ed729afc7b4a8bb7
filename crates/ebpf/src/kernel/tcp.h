/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * The members of the kernel's structures that the flow probes read, and no others. Where they lie
 * is found when a program is loaded (CO-RE): by name, so order and padding here mean nothing.
 */
#ifndef PLUMB_KERNEL_TCP_H
#define PLUMB_KERNEL_TCP_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	__s64 counter;
} atomic64_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	int sk_rcvbuf;
	unsigned long sk_pacing_rate;
	__u32 sk_pacing_status;
	__u16 sk_protocol;
	struct sock_cgroup_data sk_cgrp_data;
};

struct socket {
	struct sock *sk;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct tcp_congestion_ops {
	char name[16];
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	__u32 icsk_pmtu_cookie;
	const struct tcp_congestion_ops *icsk_ca_ops;
	void *icsk_ulp_data;
	__u8 icsk_ca_state : 5;
	__u8 icsk_pending;
	__u8 icsk_probes_out;
};

struct minmax_sample {
	__u32 t;
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct list_head {
	struct list_head *next;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	struct list_head tsq_node;
	__u32 rcv_nxt;
	__u32 snd_wnd;
	__u32 snd_una;
	__u32 write_seq;
	__u32 delivered;
	__u32 mss_cache;
	__u32 snd_cwnd;
	__u32 lost;
	struct minmax rtt_min;
	__u32 segs_out;
	__u32 data_segs_out;
	__u64 bytes_sent;
	__u8 chrono_type : 2;
	__u32 chrono_start;
	__u32 chrono_stat[3];
	__u32 mdev_us;
	__u8 ecn_flags;
	__u8 rate_app_limited : 1;
	__u32 srtt_us;
	__u32 delivered_ce;
	__u64 bytes_received;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u64 bytes_acked;
	struct {
		__u32 rtt_us;
	} rcv_rtt_est;
	__u32 dsack_dups;
	__u32 reord_seen;
	__u64 bytes_retrans;
	__u32 total_retrans;
	__u16 total_rto;
	__u32 rcv_ooopack;
	_Bool is_mptcp;
};

struct sk_buff {
	struct sock *sk;
	char cb[48];
	unsigned int end;
	unsigned char *head;
};

struct skb_shared_info {
	unsigned short gso_size;
	unsigned short gso_segs;
};

struct rb_node;

struct rb_root {
	struct rb_node *rb_node;
};

struct tcp_skb_cb {
	__u32 seq;
	__u32 end_seq;
	__u16 tcp_gso_segs;
	__u8 tcp_flags;
};

struct mptcp_subflow_context {
	__u32 token;
	__u32 subflow_id;
	__u32 request_mptcp : 1;
	__u32 mp_capable : 1;
	__u32 mp_join : 1;
	__u32 backup : 1;
	__s16 local_id;
	__u8 remote_id;
	struct sock *conn;
};

struct mptcp_pm_data {
	__u8 extra_subflows;
};

/* Before Linux 6.18. */
struct mptcp_pm_data___before {
	__u8 subflows;
};

struct mptcp_sock {
	__u64 bytes_sent;
	__u64 bytes_received;
	__u64 bytes_retrans;
	__u64 bytes_acked;
	__u32 token;
	struct mptcp_pm_data pm;
	struct rb_root out_of_order_queue;
	struct sock *first;
};

struct task_struct {
	unsigned int flags;
	int tgid;
	struct task_struct *group_leader;
	char comm[16];
};

struct file;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

/* Numbers differ between kernels: those of the running one are put in. */
enum skb_drop_reason {
	SKB_DROP_REASON_TCP_OLD_DATA = 1001,
	SKB_DROP_REASON_TCP_OLD_SEQUENCE = 1002,
	SKB_DROP_REASON_TCP_OFOMERGE = 1003,
};

#pragma clang attribute pop

/* include/net/tcp_states.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
};

/* include/uapi/linux/tcp.h, enum tcp_ca_state */
#define TCP_CA_RECOVERY 3
#define TCP_CA_LOSS 4

/* include/net/inet_connection_sock.h */
#define ICSK_TIME_LOSS_PROBE 5

/* include/net/sock.h, enum sock_flags */
#define SOCK_DEAD 0
#define SOCK_DONE 1

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000

#define AF_INET 2
#define AF_INET6 10
#define PROTOCOL_TCP 6
#define PROTOCOL_MPTCP 262
#define TCPHDR_FIN 0x01
#define TCPHDR_SYN 0x02
#define TCP_ECN_OK 1

#endif
