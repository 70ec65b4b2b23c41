/* SPDX-License-Identifier: MIT */
/*
 * What the child does: librsync over buffers, no files, no allocation of ours. It may abort or never end at
 * any time; nobody relies on it. Only this file includes the library's header.
 */
#include <stdio.h>
#include <string.h>

#include <librsync.h>

#include "engine/delta/rdiff_internal.h"

static void no_trace(rs_loglevel level, const char *text)
{
	(void)level;
	(void)text;
}

static uint32_t big_endian_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool rdiff_signature_fits(const uint8_t *sig, size_t sig_len)
{
	return sig_len > RDIFF_SIGNATURE_HEADER && sig_len <= RDIFF_SIGNATURE_MAX &&
	       (sig_len - RDIFF_SIGNATURE_HEADER) % (4 + RDIFF_STRONG) == 0 &&
	       big_endian_u32(sig) == RS_RK_BLAKE2_SIG_MAGIC && big_endian_u32(sig + 4) == RDIFF_BLOCK &&
	       big_endian_u32(sig + 8) == RDIFF_STRONG;
}

/* Runs the job over the whole input at once and frees it; bytes written, 0 when it failed or needs more. */
static size_t run(rs_job_t *job, const uint8_t *in, size_t in_len, uint8_t *out, size_t room, bool *done)
{
	union {
		const uint8_t *in;
		char *next;
	} input = {.in = in}; /* the library takes char * and only reads */
	rs_buffers_t b = {.next_in = input.next,
	                  .avail_in = in_len,
	                  .eof_in = 1,
	                  .next_out = (char *)out,
	                  .avail_out = room};

	*done = job && rs_job_iter(job, &b) == RS_DONE;
	if (job)
		rs_job_free(job);
	return *done ? room - b.avail_out : 0;
}

static size_t make_signature(struct rdiff_area *area, size_t in_len)
{
	bool done;

	return run(rs_sig_begin(RDIFF_BLOCK, RDIFF_STRONG, RS_RK_BLAKE2_SIG_MAGIC), area->in, in_len,
	           area->out, RDIFF_SIGNATURE_MAX, &done);
}

static size_t make_delta(struct rdiff_area *area, size_t sig_len, size_t in_len, size_t room)
{
	rs_signature_t *sums = NULL;
	size_t len = 0;
	bool done;

	run(rs_loadsig_begin(&sums), area->sig, sig_len, NULL, 0, &done);
	if (done && rs_build_hash_table(sums) == RS_DONE)
		len = run(rs_delta_begin(sums), area->in, in_len, area->out, room, &done);
	if (sums)
		rs_free_sumset(sums);
	return len;
}

static size_t make(struct rdiff_area *area, const struct sosie_child_message *q)
{
	const uint32_t in_len = q->word[RDIFF_WORD_IN_LEN], room = q->word[RDIFF_WORD_ROOM];

	if (in_len == 0 || in_len > RDIFF_REGION || room > RDIFF_REGION)
		return 0;
	if (q->word[RDIFF_WORD_OP] == RDIFF_OP_SIGNATURE)
		return make_signature(area, in_len);
	if (q->word[RDIFF_WORD_OP] != RDIFF_OP_DELTA ||
	    !rdiff_signature_fits(area->sig, q->word[RDIFF_WORD_SIG_LEN]))
		return 0;
	return make_delta(area, q->word[RDIFF_WORD_SIG_LEN], in_len, room);
}

static void answer(void *arg, void *area, struct sosie_child_message *m)
{
	(void)arg;
	m->word[RDIFF_WORD_OUT_LEN] = (uint32_t)make(area, m);
}

void rdiff_child_run(int socket, void *area)
{
	rs_trace_to(no_trace);
	rs_trace_set_level(RS_LOG_EMERG);
	sosie_child_serve(socket, area, answer, NULL);
}
