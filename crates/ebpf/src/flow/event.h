/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * What the flow probes tell user space: one record per event, all of the same shape in one run.
 * event.rs and segments.rs read it; tests there compare the sizes. Wide members first, so that there is no hidden padding.
 */
#ifndef PLUMB_FLOW_EVENT_H
#define PLUMB_FLOW_EVENT_H

#include <linux/types.h>

enum event_kind {
	/* The handshake is over. */
	EVENT_ESTABLISHED = 1,
	/* The first retransmission timeout of a lossy phase. */
	EVENT_LOSSY_ENTERED,
	/* What was lost is acknowledged. */
	EVENT_LOSSY_LEFT,
	/* The socket is closed. */
	EVENT_CLOSED,
	/* The connection was there before the recorder. */
	EVENT_BASELINE,
	/* The window was open for long, or nothing happened for long. */
	EVENT_ACTIVE_TIMEOUT,
	EVENT_IDLE_TIMEOUT,
	/* The application is gone and the kernel still sends. */
	EVENT_ORPHANED,
	/* The recorder stops. */
	EVENT_STOPPED,
	/* Somebody looks: no window ends, and it has no number of its own. */
	EVENT_LOOK,
	/* Tells only of the handshake, by opened_at and its like. */
	EVENT_OPENED = 11,
};

/* Bits of flags. */
#define FLAG_ACTIVE 0x01 /* this host opened the connection */
#define FLAG_PASSIVE 0x02 /* the remote end did */
#define FLAG_LOSSY 0x04 /* in a lossy phase */
#define FLAG_FIN_RECEIVED 0x08
#define FLAG_FIN_ACKED 0x10
#define FLAG_META 0x20 /* a multipath connection, not one of its subflows */
#define FLAG_SUBFLOW 0x40 /* part of a multipath connection */
#define FLAG_BACKUP 0x80 /* a subflow that is used only if no other can be */

struct flow_event {
	__u64 cookie;
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__u64 syn_at; /* when the first SYN left; 0: not known */
	__u64 cgroup;
	__u64 bytes_sent;
	__u64 bytes_acked;
	__u64 bytes_received;
	__u64 bytes_retrans;
	__u64 duplicate_bytes;
	__u64 pacing_rate;
	/* When a clean handshake ended that had no event of its own; 0: it had one. */
	__u64 opened_at;
	__u32 sequence; /* of this event among the connection's, from 0 */
	__u32 netns;
	__u32 pid;
	__u32 segs_out;
	__u32 segs_in;
	__u32 data_segs_out;
	__u32 data_segs_in;
	__u32 total_retrans;
	__u32 lost;
	__u32 rtos;
	__u32 fast_recoveries;
	__u32 tail_loss_probes;
	__u32 dsack_dups;
	__u32 reord_seen;
	__u32 rcv_ooopack;
	__u32 duplicates;
	__u32 resets_sent;
	__u32 resets_received;
	__u32 srtt_us8;
	__u32 mdev_us4;
	__u32 min_rtt_us;
	__u32 rcv_rtt_us8;
	__u32 busy[3]; /* jiffies: busy alone, window-limited, buffer-limited */
	__u32 delivered_ce;
	__u32 mss;
	__u32 pmtu;
	__u32 cwnd;
	__u32 snd_wnd;
	__u32 rcvbuf;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 token;
	__u32 path_index;
	/* How the handshake ended, where opened_at is set. */
	__u32 opened_segs_out;
	__u32 opened_segs_in;
	__u32 opened_srtt_us8;
	__u32 opened_mdev_us4;
	__u32 opened_min_rtt_us;
	__u32 opened_cwnd;
	__u32 opened_mss;
	__u32 opened_snd_wnd;
	__u32 opened_rcvbuf;
	__u16 error;
	__u16 local_port; /* host order */
	__u16 remote_port;
	__u8 kind;
	__u8 flags;
	__u8 family;
	__u8 old_state;
	__u8 new_state;
	__u8 ecn;
	__u8 probes_out;
	__u8 local_id;
	__u8 remote_id;
	__u8 subflows;
	__u8 local[16];
	__u8 remote[16];
	char comm[16];
	char congestion[16];
	__u32 pacing_status;
	__u32 jiffies; /* the kernel's clock of busy[] at the time of this event */
};

/*
 * What is watched for each segment, where that was asked for: totals, but for extremes, which are
 * those of the window that the event ends.
 */
struct flow_segments {
	__u64 rtt_sum_us;
	__u64 distance_sum;
	/* The sum of squares is low + (high << 32): neither overflows. */
	__u64 distance_squares_low;
	__u64 distance_squares_high;
	__u32 rtt_count;
	__u32 rtt_min_us;
	__u32 rtt_max_us;
	__u32 distance_count;
	__u32 distance_max;
	__u32 zero_windows;
	__u32 stalls;
	__u32 known; /* 0: this connection is not watched so */
};

/* What is told instead, then. */
struct flow_wide_event {
	struct flow_event event;
	struct flow_segments segments;
};

#endif
