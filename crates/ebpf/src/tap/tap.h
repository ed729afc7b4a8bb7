/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/* What the programs of a tap share with their loader (layout.rs has the same in Rust). */
#ifndef PLUMB_TAP_H
#define PLUMB_TAP_H

/* Mark of every packet that a tap has put out ("pltp"): no tap takes it in again. */
#define TAP_MARK 0x706c7470

/* What a program returns that leaves the packet to the next one. */
#define NEXT (-1)
#define INLINE static __always_inline

#define MAX_OUTPUTS 8
#define MAX_HEADER 112

/* config.flags */
#define TO_RING 1
#define WAKE 2
#define HEADERS_ONLY 4
#define BALANCE 8
#define LIMIT_RATE 16
#define DEDUPLICATE 32
#define NEEDS_FLOW 128
#define MASK 256

/* What a prefix of the set says. */
#define INCLUDE 1
#define EXCLUDE 2

/* record.flags */
#define VLAN_PRESENT 1
#define CHECKSUM_PARTIAL 2

/* record.headers where nothing is masked */
#define UNMASKED 0xffff

/* Of the numbers that the kernel has for skb_shinfo(skb)->gso_type. */
#define GSO_TCP4 (1 << 0)
#define GSO_TCP_ECN (1 << 2)
#define GSO_TCP6 (1 << 4)
#define GSO_UDP_L4 (1 << 17)
#define GSO_FRAGLIST (1 << 18)

enum output_kind { PLAIN, VXLAN, GENEVE, GRE, ERSPAN2, ERSPAN3 };

/* What the loader decides; it may change at any time. */
struct config {
	__u64 wall_offset;    /* wall time minus CLOCK_MONOTONIC, ns */
	__u64 packets_per_s;  /* 0: no cap */
	__u64 bytes_per_s;    /* 0: no cap */
	__u64 dedup_ns;       /* two copies within this time are one packet */
	__u32 id;             /* of the session, for clones on their way to an output */
	__u32 flags;
	__u32 snaplen;        /* bytes of a packet that are kept; 0: all */
	__u32 sample;         /* one packet in so many; 0 and 1: all */
	__u32 flow_threshold; /* flows whose hash is below; 0: all */
	__u32 outputs;        /* how many of the outputs are in use */
	__u32 watermark;      /* bytes in the ring that wake the reader */
	__u32 reserved;
};

/* Where clones go. */
struct output {
	__u32 ifindex;
	__u32 mtu;
	__u32 ip_sum; /* of the IPv4 header, with zeros for length and checksum */
	__u16 len;    /* of the header below; 0 for PLAIN */
	__u8 kind;
	__u8 ip; /* 4 or 6 */
	__u8 header[MAX_HEADER];
};

/* What became of packets, for each processor. */
struct counters {
	__u64 seen;
	__u64 seen_bytes;
	__u64 matched;
	__u64 delivered;
	__u64 delivered_bytes;
	__u64 sampled_out;
	__u64 rate_limited;
	__u64 duplicates;
	__u64 truncated;
	__u64 ring_full;
	__u64 output_failed;
	__u64 own; /* put out by a tap, so not taken */
};

/* What lies before the bytes of a packet in the ring. */
struct record {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__u32 len;     /* of the packet, without a tag beside it */
	__u32 cap;     /* bytes that follow */
	__u32 ifindex;
	__u32 gso_type;
	__u16 gso_size;
	__u16 gso_segs;
	__u16 vlan_proto; /* network byte order */
	__u16 vlan_tci;
	__u16 csum_start; /* from the start of the packet */
	__u16 csum_offset;
	__u8 direction; /* 0: the interface received it, 1: it sends it */
	__u8 flags;
	__u16 headers; /* bytes before the transport payload, which is to be masked */
};

#endif
