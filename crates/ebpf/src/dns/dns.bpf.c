// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
// DNS over UDP as the sockets of a control group send and receive it: every query to port 53 of
// another host, and every answer from there, with who asked. All packets pass.
#include <linux/bpf.h>
#include <stdbool.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PORT 53
#define UDP_HEADER 8
// A name of 255 bytes, with header and type, is below this.
#define MOST_PAYLOAD 512

struct dns_message {
	__u64 at_ns; // CLOCK_MONOTONIC
	__u64 cookie;
	__u64 netns_cookie;
	__u64 cgroup_id;
	__u32 pid; // 0: not known
	__u16 len; // of the payload as far as it was copied
	__u16 local_port;
	__u16 remote_port;
	__u8 version;
	__u8 is_sent;
	__u8 local_addr[16];
	__u8 remote_addr[16];
	char comm[16];
	__u8 payload[MOST_PAYLOAD];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} messages SEC(".maps");

// Whether the kernel tells a program of this kind which process runs.
const volatile bool names_process = true;

// Messages that found no room.
__u64 lost = 0;

// Makes the type known to the loader.
struct dns_message *unused_message __attribute__((unused));

static __always_inline int watch(struct __sk_buff *skb, int is_sent)
{
	__u8 version, protocol;
	__u32 transport, source, destination, address_len;
	__be16 ports[2];

	if (skb->protocol == bpf_htons(0x0800)) {
		__u8 first;
		__be16 fragment;

		if (bpf_skb_load_bytes(skb, 0, &first, 1) || bpf_skb_load_bytes(skb, 9, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, 6, &fragment, 2))
			return 1;
		// Only a first fragment has ports.
		if (fragment & bpf_htons(0x1fff))
			return 1;
		version = 4;
		transport = (first & 0xf) * 4;
		source = 12;
		destination = 16;
		address_len = 4;
	} else if (skb->protocol == bpf_htons(0x86dd)) {
		// Extension headers are not expected in front of a name server's answer.
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1))
			return 1;
		version = 6;
		transport = 40;
		source = 8;
		destination = 24;
		address_len = 16;
	} else {
		return 1;
	}
	if (protocol != IPPROTO_UDP || bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)))
		return 1;
	if (ports[is_sent ? 1 : 0] != bpf_htons(PORT))
		return 1;

	__u32 begin = transport + UDP_HEADER;
	if (skb->len <= begin)
		return 1;
	struct dns_message *m = bpf_ringbuf_reserve(&messages, sizeof(*m), 0);
	if (!m) {
		__sync_fetch_and_add(&lost, 1);
		return 1;
	}
	__u32 len = skb->len - begin;
	if (len > MOST_PAYLOAD)
		len = MOST_PAYLOAD;
	// The mask changes nothing: it is how the verifier sees that the length is from 1 to 512.
	len = ((len - 1) & (MOST_PAYLOAD - 1)) + 1;
	if (bpf_skb_load_bytes(skb, begin, m->payload, len)) {
		bpf_ringbuf_discard(m, 0);
		return 1;
	}
	__builtin_memset(m->local_addr, 0, sizeof(m->local_addr));
	__builtin_memset(m->remote_addr, 0, sizeof(m->remote_addr));
	__u32 local = is_sent ? source : destination, remote = is_sent ? destination : source;
	if (address_len == 4) {
		bpf_skb_load_bytes(skb, local, m->local_addr, 4);
		bpf_skb_load_bytes(skb, remote, m->remote_addr, 4);
	} else {
		bpf_skb_load_bytes(skb, local, m->local_addr, 16);
		bpf_skb_load_bytes(skb, remote, m->remote_addr, 16);
	}
	m->at_ns = bpf_ktime_get_ns();
	m->cookie = bpf_get_socket_cookie(skb);
	m->netns_cookie = bpf_get_netns_cookie(skb);
	m->cgroup_id = bpf_skb_cgroup_id(skb);
	m->len = len;
	m->local_port = bpf_ntohs(ports[is_sent ? 0 : 1]);
	m->remote_port = PORT;
	m->version = version;
	m->is_sent = is_sent;
	m->pid = 0;
	__builtin_memset(m->comm, 0, sizeof(m->comm));
	// What is sent is sent by the process that runs; what arrives may interrupt any.
	if (is_sent && names_process) {
		m->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(m->comm, sizeof(m->comm));
	}
	bpf_ringbuf_submit(m, 0);
	return 1;
}

SEC("cgroup_skb/egress")
int sent(struct __sk_buff *skb)
{
	return watch(skb, 1);
}

SEC("cgroup_skb/ingress")
int received(struct __sk_buff *skb)
{
	return watch(skb, 0);
}

char LICENSE[] SEC("license") = "GPL";
