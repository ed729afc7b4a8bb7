/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * What the programs keep and share with user space, and which connections they keep it for.
 */
#ifndef PLUMB_FLOW_STATE_H
#define PLUMB_FLOW_STATE_H

/* Since Linux 6.2. Reads through what it gives cannot fault. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* What user space sets before the programs are loaded. 0 means: any. */
const volatile struct settings {
	__u64 cgroup;
	__u32 netns;
	__u32 sample; /* one connection in so many */
	__u32 ports;
	__u32 prefixes;
	__u32 watermark; /* bytes in the ring that wake the reader */
	__u32 segments; /* whether each segment is watched */
	__u32 stalls; /* whether each segment of multipath connections is */
	__u32 table_shift; /* of 64 bits, to the number of a bucket in the table; 0: there is none */
	__u32 by_address; /* what would be in the storage of sockets is found by their addresses */
} config = {};

/* Whether events are wide. */
static __always_inline bool wide(void)
{
	return config.segments || config.stalls;
}

/* For the loader's check that both sides mean the same. */
const volatile __u32 event_size = sizeof(struct flow_event);
const volatile __u32 wide_event_size = sizeof(struct flow_wide_event);

/* What user space reads, and adds up: processors that count in one place take a cache line from each other. */
struct counts {
	__u64 dropped; /* events that found the ring full; one that tells of the handshake, too, is two */
	__u64 connections; /* that were watched, from the start on */
	__u64 ended; /* of these */
	__u64 untracked; /* connections that could not be given storage */
	__u64 wakes; /* of the reader */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

/* Adds to one of them; atomically, as a segment may come in where a process runs a program. */
#define ADD(which, n)                                                       \
	do {                                                                \
		__u32 zero = 0;                                             \
		struct counts *here = bpf_map_lookup_elem(&counts, &zero);  \
                                                                            \
		if (here)                                                   \
			__sync_fetch_and_add(&here->which, n);              \
	} while (0)

/* What user space sets before a pass over the connections. */
struct pass {
	__u64 active_ns;
	__u64 idle_ns;
	__u64 orphan_ns;
	__u64 stopping;
	__u64 looking;
	__u64 number; /* of the pass; not 0 */
	/* What the program that makes it notes. */
	__u64 walked; /* the latest that is over */
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

/*
 * What a pass over the connections tells. An iterator's own buffer of 32 KB would take some hundred at
 * a time, and the kernel finds the place to go on at by walking there from the start of one of very few
 * lists: the cost would grow with the square of the connections. Its reader empties this one meanwhile.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} passed SEC(".maps");

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
#define ST_UNCHECKED 0x40 /* its addresses were not all known when it was admitted */
#define ST_ORPHANED 0x80
#define ST_ENDED 0x100 /* its end is being told: a pass has nothing more to tell of it */
#define ST_BEGOT 0x200 /* a listener's child, whose handshake is not over */

/* A value and the lower half of a socket's cookie, and both as one. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define TAGGED(value, tag, both)      \
	union {                       \
		struct {              \
			__u32 tag;    \
			__u32 value;  \
		};                    \
		__u64 both;           \
	}
#else
#define TAGGED(value, tag, both)      \
	union {                       \
		struct {              \
			__u32 value;  \
			__u32 tag;    \
		};                    \
		__u64 both;           \
	}
#endif

/* What is kept about a connection, and about a listener for the connections that it begets. */
struct state {
	__u64 cookie;
	/*
	 * Each is changed by a pass only together with what says whose it is: the entry may by then be that of
	 * another socket.
	 */
	TAGGED(flags, flags_tag, mark);
	TAGGED(sequence, sequence_tag, number);
	__u64 syn_at;
	__u64 window_at; /* when the open window began */
	__u64 seen_at; /* when segments had last been counted anew */
	__u64 closing_at; /* when this host closed its direction */
	__u64 duplicate_bytes;
	__u32 window_segs;
	__u32 seen_segs;
	__u32 duplicates;
	__u32 resets_sent;
	__u32 resets_received;
	__u32 rtos;
	__u32 fast_recoveries;
	__u32 tail_loss_probes;
	/* How the handshake ended, until that is told with the next event. */
	__u64 opened_at;
	__u32 opened_segs_out;
	__u32 opened_segs_in;
	__u32 opened_srtt_us8;
	__u32 opened_mdev_us4;
	__u32 opened_min_rtt_us;
	__u32 opened_cwnd;
	__u32 opened_mss;
	__u32 opened_snd_wnd;
	__u32 opened_rcvbuf;
	/* The owner stays when a listener's state becomes a connection's. */
	__u32 pid;
	__u32 pass; /* the last that has gone by, where the socket is known by its address */
	char comm[16] __attribute__((aligned(8)));
};

/*
 * The states of most connections and listeners, where the addresses of their sockets say. To give a socket
 * storage takes two allocations and their return after a grace period, so that each connection has memory
 * that no processor has near. What one gives back here is the next one's, and no lock is taken for it: who
 * has a socket's lock has its entry.
 *
 * No socket holds what is here. It is taken out where the socket is closed, and by a pass if the kernel left
 * that event out, as it does where it interrupts the same program.
 */
#define WAYS 4

struct bucket {
	__u64 keys[WAYS]; /* the sockets; 0: free */
	struct state states[WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* user space knows better */
	__type(key, __u32);
	__type(value, struct bucket);
} table SEC(".maps");

/*
 * The others: those that were there before, those that found no room in the table, and multipath
 * connections. A child inherits the state of its listener, and so knows its process.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct state);
} states SEC(".maps");

/*
 * The same by the addresses of the sockets, where the kernel lets no program go over their storage. As in
 * the table no socket holds what is here, and it is taken out in the same two places.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* user space knows better */
	__type(key, __u64);
	__type(value, struct state);
} states_by_address SEC(".maps");

const struct state no_state = {};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_wide_event);
} scratch SEC(".maps");

/* Names are copied as words: for a string the kernel would look for its end. */
static __always_inline void copy_name(char *to, const char *from)
{
	((__u64 *)to)[0] = ((const __u64 *)from)[0];
	((__u64 *)to)[1] = ((const __u64 *)from)[1];
}

static __always_inline void own(struct state *st, const struct task_struct *task)
{
	st->pid = task->tgid;
	copy_name(st->comm, task->group_leader->comm);
}

/* The process that runs, if one does: states also change where a packet or a kernel thread came by. */
static __always_inline void note_owner(struct state *st)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!(task->flags & PF_KTHREAD))
		own(st, task);
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
	return sk->sk_cgrp_data.cgroup->kn->id;
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

/* Whether a connection is one that was asked for, by its addresses. */
static __always_inline bool admit_addresses(const struct sock *sk, __u8 *flags)
{
	if (config.ports) {
		__u16 near = local_port(sk);

		if (!has_port(bpf_ntohs(sk->__sk_common.skc_dport)) && !(near && has_port(near))) {
			if (near)
				return false;
			*flags |= ST_UNCHECKED;
		}
	}
	if (config.prefixes) {
		struct prefix near = { .len = 128 }, far = { .len = 128 };

		addresses(sk, near.address, far.address);
		if (!bpf_map_lookup_elem(&prefixes, &near) && !bpf_map_lookup_elem(&prefixes, &far))
			return false;
	}
	return true;
}

/* The same, by all else. */
static __always_inline bool admit_socket(const struct sock *sk)
{
	if (config.netns && sk->__sk_common.skc_net.net->ns.inum != config.netns)
		return false;
	if (config.cgroup && !in_cgroup(sk, config.cgroup))
		return false;
	if (config.sample > 1 && bpf_get_prandom_u32() % config.sample)
		return false;
	return true;
}

/* Flags may say that addresses are yet to come: those of a multipath connection do. */
static __always_inline bool admit(const struct sock *sk, __u8 *flags)
{
	if (!admit_socket(sk))
		return false;
	if (sk->sk_protocol == PROTOCOL_MPTCP) {
		*flags |= ST_UNCHECKED;
		return true;
	}
	return admit_addresses(sk, flags);
}

static __always_inline struct state *create_apart(const struct sock *sk)
{
	struct state *st;

	if (config.by_address) {
		__u64 key = (__u64)sk;

		/* One that is there was left by a socket that is gone, or is this one's. */
		bpf_map_update_elem(&states_by_address, &key, &no_state, BPF_NOEXIST);
		st = bpf_map_lookup_elem(&states_by_address, &key);
	} else {
		st = bpf_sk_storage_get(&states, (void *)sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	}
	if (!st)
		ADD(untracked, 1);
	return st;
}

static __always_inline struct bucket *bucket_of(const void *sk)
{
	/* The difference of two pointers is a number, with which the verifier lets one calculate. */
	__u64 distance = (__u64)sk - (__u64)&config;
	__u32 n = distance * 0x9e3779b97f4a7c15ULL >> (config.table_shift & 63);

	return bpf_map_lookup_elem(&table, &n);
}

static __always_inline struct state *find_in(struct bucket *bucket, const void *sk)
{
	for (int n = 0; n < WAYS; n++)
		if (bucket->keys[n] == (__u64)sk)
			return &bucket->states[n];
	return NULL;
}

static __always_inline struct state *find_in_table(const void *sk)
{
	struct bucket *bucket = bucket_of(sk);

	return bucket ? find_in(bucket, sk) : NULL;
}

static __always_inline struct state *create_in_table(const void *sk)
{
	struct bucket *bucket = bucket_of(sk);
	struct state *st;

	if (!bucket)
		return NULL;
	st = find_in(bucket, sk);
	if (st)
		return st;
	for (int n = 0; n < WAYS; n++)
		if (!bucket->keys[n] && !__sync_val_compare_and_swap(&bucket->keys[n], 0, (__u64)sk)) {
			st = &bucket->states[n];
			/* Whose it was before is nothing to this one. */
			st->pid = 0;
			__builtin_memset(st->comm, 0, sizeof(st->comm));
			return st;
		}
	return NULL;
}

static __always_inline struct state *create(const struct sock *sk)
{
	struct state *st;

	if (config.table_shift && sk->sk_protocol == PROTOCOL_TCP) {
		st = create_in_table(sk);
		if (st)
			return st;
	}
	return create_apart(sk);
}

/* What is kept of a socket of which no more than the address is known. */
static __always_inline struct state *find_by_address(const void *sk)
{
	struct state *st = NULL;
	__u64 key = (__u64)sk;

	if (config.table_shift)
		st = find_in_table(sk);
	if (!st && config.by_address)
		st = bpf_map_lookup_elem(&states_by_address, &key);
	return st;
}

static __always_inline struct state *find(const struct sock *sk)
{
	struct state *st = find_by_address(sk);

	if (st || config.by_address)
		return st;
	return bpf_sk_storage_get(&states, (void *)sk, 0, 0);
}

static __always_inline struct state *tracked(const struct sock *sk)
{
	struct state *st = find(sk);

	return st && (st->flags & ST_OPEN) ? st : NULL;
}

/* Ends to keep the state of a socket. What is found by its address may be another one's at once. */
static __always_inline void forget(const struct sock *sk, struct state *st)
{
	struct bucket *bucket = config.table_shift ? bucket_of(sk) : NULL;
	__u64 key = (__u64)sk;

	st->flags = ST_IGNORED;
	for (int n = 0; bucket && n < WAYS; n++)
		if (bucket->keys[n] == key)
			__sync_val_compare_and_swap(&bucket->keys[n], key, 0);
	if (config.by_address)
		bpf_map_delete_elem(&states_by_address, &key);
}

static __always_inline void inherit_owner(struct state *st, const struct state *from)
{
	st->pid = from->pid;
	copy_name(st->comm, from->comm);
}

/*
 * Lets a child of a listener that is found by address know its process. This early the child is a copy of
 * its listener, and an empty list in it still points to where that has it.
 */
static __always_inline void inherit(const struct sock *sk)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct state *listener, *child;

	if (!tp || !bpf_core_field_exists(tp->tsq_node))
		return;
	listener = find_by_address((void *)tp->tsq_node.next - bpf_core_field_offset(struct tcp_sock, tsq_node));
	if (!listener || !(listener->flags & ST_LISTENER))
		return;
	child = config.table_shift ? create_in_table(sk) : NULL;
	if (!child && config.by_address)
		child = create_apart(sk);
	if (!child)
		return;
	inherit_owner(child, listener);
	child->window_at = bpf_ktime_get_ns();
	child->flags = ST_BEGOT;
}

/* Lets a multipath connection know the process of its first path. */
static __always_inline void inherit_from_path(const struct sock *sk, struct state *st)
{
	const struct mptcp_sock *msk = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct mptcp_sock));
	const struct state *path = find_by_address(msk->first);

	if (path)
		inherit_owner(st, path);
}

#endif
