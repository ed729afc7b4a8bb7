// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// An Internet that costs next to nothing: answers ICMP echo requests as five routers and a
// destination behind them would, straight from the driver's receive path.
//
// Router k (1 to 5) has the address 5.0.(k-1).2 and quotes 28 bytes; every other address is a
// destination six hops away. All of them start replies with a TTL of 64.

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))

static long (*bpf_xdp_adjust_head)(struct xdp_md *, int) = (void *)BPF_FUNC_xdp_adjust_head;
static long (*bpf_xdp_adjust_tail)(struct xdp_md *, int) = (void *)BPF_FUNC_xdp_adjust_tail;

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

struct eth {
    u8 dst[6];
    u8 src[6];
    u16 type;
} __attribute__((packed));

struct ip {
    u8 version_len;
    u8 tos;
    u16 total_len;
    u16 id;
    u16 fragment;
    u8 ttl;
    u8 protocol;
    u16 checksum;
    u32 src;
    u32 dst;
};

struct icmp {
    u8 type;
    u8 code;
    u16 checksum;
    u32 rest;
};

enum { HOPS = 6, FIRST_TTL = 64, ECHO_REPLY = 0, ECHO = 8, TIME_EXCEEDED = 11 };

static __attribute__((always_inline)) u16 fold(u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static __attribute__((always_inline)) u32 add(const void *from, int words)
{
    const u16 *at = from;
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < words; i++)
        sum += at[i];
    return sum;
}

static __attribute__((always_inline)) void turn(struct eth *eth)
{
    struct eth old = *eth;
    __builtin_memcpy(eth->dst, old.src, 6);
    __builtin_memcpy(eth->src, old.dst, 6);
}

SEC("xdp")
int mirror(struct xdp_md *context)
{
    void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct eth *eth = data;
    struct ip *ip = (void *)(eth + 1);
    struct icmp *icmp = (void *)(ip + 1);
    if ((void *)(icmp + 1) > end || eth->type != __builtin_bswap16(0x0800) ||
        ip->version_len != 0x45 || ip->protocol != 1 || icmp->type != ECHO)
        return XDP_DROP;
    u32 dst = __builtin_bswap32(ip->dst);
    u32 hops = dst >> 16 == 0x0500 ? ((dst >> 8) & 0xff) + 1 : HOPS;
    u8 ttl = ip->ttl;

    if (ttl >= hops) {
        turn(eth);
        u32 src = ip->src;
        ip->src = ip->dst;
        ip->dst = src;
        ip->ttl = FIRST_TTL + 1 - hops;
        ip->checksum = 0;
        ip->checksum = fold(add(ip, 10));
        icmp->type = ECHO_REPLY;
        icmp->checksum = fold((u16)~icmp->checksum + (u16)~ECHO);
        return XDP_TX;
    }

    struct eth link = *eth;
    ip->ttl = 1;
    ip->checksum = 0;
    ip->checksum = fold(add(ip, 10));
    int before = sizeof(struct ip) + sizeof(struct icmp);
    int quoted = sizeof(struct eth) + sizeof(struct ip) + sizeof(struct icmp);
    if (bpf_xdp_adjust_tail(context, quoted - (int)(end - data)) != 0 ||
        bpf_xdp_adjust_head(context, -before) != 0)
        return XDP_DROP;
    data = (void *)(long)context->data;
    end = (void *)(long)context->data_end;
    eth = data;
    ip = (void *)(eth + 1);
    icmp = (void *)(ip + 1);
    struct ip *quote = (void *)(icmp + 1);
    if ((void *)(quote + 1) + sizeof(struct icmp) > end)
        return XDP_DROP;
    *eth = link;
    turn(eth);
    ip->version_len = 0x45;
    ip->tos = 0;
    ip->total_len = __builtin_bswap16(56);
    ip->id = quote->id;
    ip->fragment = 0;
    ip->ttl = FIRST_TTL + 1 - ttl;
    ip->protocol = 1;
    ip->src = __builtin_bswap32(0x05000002 | (u32)(ttl - 1) << 8);
    ip->dst = quote->src;
    ip->checksum = 0;
    ip->checksum = fold(add(ip, 10));
    icmp->type = TIME_EXCEEDED;
    icmp->code = 0;
    icmp->rest = 0;
    icmp->checksum = 0;
    icmp->checksum = fold(add(icmp, 18));
    return XDP_TX;
}

// A veth hands XDP_TX frames only to a peer that has a program too.
SEC("xdp.pass")
int pass(struct xdp_md *context)
{
    return XDP_PASS;
}

const char dual[] SEC("license") = "Dual MIT/GPL";
