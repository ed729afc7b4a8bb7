/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * When whoever reads a ring is to be woken.
 */
#ifndef PLUMB_RING_H
#define PLUMB_RING_H

/*
 * Whether a record of `len` bytes is to wake the reader. To wake it for each would cost more than all else:
 * it is where `watermark` bytes wait, and, as a reader that was woken may have to wait for a processor, with
 * each quarter of that more. Processors that fill the ring at once may miss a step.
 */
static __always_inline int wakes(void *ring, __u64 watermark, __u64 len)
{
	__u64 waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA), step = watermark / 4;

	return step && waiting >= watermark &&
	       waiting / step != (waiting - len - BPF_RINGBUF_HDR_SZ) / step;
}

#endif
