/* SPDX-License-Identifier: MIT */
/* redo.log; layout in journal.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/journal.h"
#include "sosie/bytes.h"

#define HEAD 72u
#define SUM_AT 64u
#define LIST_MAX 32u /* leaves that are told one by one */
#define LOGGED (1u << 9)
#define COUNT_MASK 0x1ffu
#define ENTRY_MAX (HEAD + SOSIE_FANOUT / 8 + SOSIE_FANOUT * 32u)
#define BUFFER (256u << 10)

static_assert(SOSIE_FANOUT == 256, "a leaf of a chunk is told in a byte");
static_assert(SOSIE_RECORD_ATTACHMENT < 7, "kind 7 is the journal's own");

int journal_open(struct journal *j, struct sosie_io *io, const char *path, uint64_t start, bool fresh,
                 struct sosie_err *err)
{
	struct sosie_stat st;
	int rc = sosie_io_openat(io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0600, &j->file, err);

	j->io = io;
	if (rc != 0) {
		j->file = NULL;
		return rc;
	}
	rc = sosie_io_fstat(io, j->file, &st, err);
	j->size = rc == 0 ? st.size : 0;
	j->start = start < j->size ? start : j->size;
	if (rc == 0 && fresh && j->size > j->start) {
		rc = sosie_io_truncate(io, j->file, j->start, err);
		j->size = j->start;
	}
	if (rc != 0)
		journal_close(j);
	return rc;
}

void journal_close(struct journal *j)
{
	if (j->file)
		sosie_io_close(j->io, j->file, NULL);
	j->file = NULL;
}

int journal_flush(struct journal *j, struct sosie_err *err)
{
	return sosie_io_fsync(j->io, j->file, err);
}

/* --- an entry
 * ------------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

static uint64_t sum_part(uint64_t h, const uint8_t *bytes, size_t len)
{
	uint64_t word;

	for (; len >= sizeof(word); bytes += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		h = mix(h, word);
	}
	word = 0;
	memcpy(&word, bytes, len);
	return mix(h, word ^ (uint64_t)len << 56);
}

static uint64_t entry_sum(const uint8_t *bytes, size_t len)
{
	uint64_t h = sum_part(0xcbf29ce484222325u, bytes, SUM_AT);

	return sum_part(h, bytes + HEAD, len - HEAD);
}

static bool has_digests(const struct journal_entry *e)
{
	return e->logged && (e->kind == SOSIE_RECORD_DATA || e->kind == JOURNAL_CHUNK);
}

static size_t entry_length(const struct journal_entry *e)
{
	size_t leaves = e->leaves <= LIST_MAX ? e->leaves : SOSIE_FANOUT / 8;

	return HEAD + (e->logged ? leaves : 0) +
	       (has_digests(e) ? e->leaves * sizeof(struct sosie_digest) : 0);
}

static void put_leaves(struct sosie_writer *w, const struct journal_entry *e)
{
	if (e->leaves > LIST_MAX) {
		sosie_put_bytes(w, e->map, sizeof(e->map));
		return;
	}
	for (unsigned i = 0; i < SOSIE_FANOUT; i++)
		if (journal_has(e, i))
			sosie_put_u8(w, (uint8_t)i);
}

int journal_append(struct journal *j, const struct journal_entry *e,
                   const struct sosie_digest block[SOSIE_FANOUT], struct sosie_err *err)
{
	uint8_t bytes[ENTRY_MAX];
	size_t len = entry_length(e);
	struct sosie_writer w;
	uint64_t sum;
	int rc;

	sosie_writer_init(&w, bytes, sizeof(bytes));
	sosie_put_u32(&w, (uint32_t)len);
	sosie_put_u32(&w, e->part);
	sosie_put_u16(&w, e->volume);
	sosie_put_u16(&w, (uint16_t)((unsigned)e->kind << 13 | (e->last_leaf ? 1u << 12 : 0u) |
	                             (e->logged ? LOGGED : 0u) | e->leaves));
	sosie_put_u32(&w, (uint32_t)e->chunk);
	sosie_put_u64(&w, e->end);
	sosie_put_bytes(&w, e->chain.b, sizeof(e->chain.b));
	sosie_put_u64(&w, e->check);
	sosie_put_u64(&w, 0);
	if (e->logged)
		put_leaves(&w, e);
	for (unsigned i = 0; has_digests(e) && i < SOSIE_FANOUT; i++)
		if (journal_has(e, i))
			sosie_put_bytes(&w, block[i].b, sizeof(block[i].b));
	assert(!w.failed && w.len == len);
	sum = entry_sum(bytes, len);
	sosie_writer_init(&w, bytes + SUM_AT, sizeof(sum));
	sosie_put_u64(&w, sum);
	rc = sosie_io_pwrite(j->io, j->file, bytes, len, j->size, err);
	if (rc == 0)
		j->size += len;
	return rc;
}

static bool get_leaves(struct sosie_reader *r, struct journal_entry *e)
{
	unsigned count = 0;

	if (e->leaves > LIST_MAX) {
		sosie_get_bytes(r, e->map, sizeof(e->map));
	} else {
		for (unsigned i = 0; i < e->leaves; i++) {
			uint8_t leaf = sosie_get_u8(r);

			e->map[leaf / 8] |= (uint8_t)(1u << leaf % 8);
		}
	}
	for (unsigned i = 0; i < SOSIE_FANOUT; i++)
		count += journal_has(e, i);
	return count == e->leaves;
}

/* The entry at the start of len bytes; 0: none that is whole. */
static size_t get_entry(const uint8_t *bytes, size_t len, struct journal_entry *e,
                        const struct sosie_digest **digests)
{
	struct sosie_reader r;
	unsigned facts;
	uint64_t sum;
	uint32_t length;

	*e = (struct journal_entry){0};
	if (len < HEAD)
		return 0;
	sosie_reader_init(&r, bytes, HEAD);
	length = sosie_get_u32(&r);
	e->part = sosie_get_u32(&r);
	e->volume = sosie_get_u16(&r);
	facts = sosie_get_u16(&r);
	e->chunk = sosie_get_u32(&r);
	e->end = sosie_get_u64(&r);
	sosie_get_bytes(&r, e->chain.b, sizeof(e->chain.b));
	e->check = sosie_get_u64(&r);
	sum = sosie_get_u64(&r);
	e->kind = (enum sosie_record_kind)(facts >> 13);
	e->last_leaf = facts >> 12 & 1;
	e->logged = facts & LOGGED;
	e->leaves = facts & COUNT_MASK;
	if (e->part >= SOSIE_PARTS_MAX || e->kind == 0 || e->leaves > SOSIE_FANOUT || e->end == 0 ||
	    length != entry_length(e) || length > len || entry_sum(bytes, length) != sum)
		return 0;
	sosie_reader_init(&r, bytes + HEAD, length - HEAD);
	if (e->logged && !get_leaves(&r, e))
		return 0;
	*digests = has_digests(e) ? (const struct sosie_digest *)(bytes + length) - e->leaves : NULL;
	return length;
}

/* --- all entries
 * --------------------------------------------------------------------------------------------------- */

/* Entries of one buffer; *used: bytes of whole ones. */
static int each_of(const uint8_t *buffer, size_t len, journal_fn fn, void *arg, size_t *used)
{
	*used = 0;
	for (;;) {
		const struct sosie_digest *digests;
		struct journal_entry e;
		size_t n = get_entry(buffer + *used, len - *used, &e, &digests);
		int rc = n ? fn(arg, &e, digests) : 0;

		if (n == 0 || rc != 0)
			return rc;
		*used += n;
	}
}

int journal_each(struct journal *j, uint64_t from, uint64_t to, journal_fn fn, void *arg, uint64_t *end,
                 struct sosie_err *err)
{
	uint8_t *buffer = malloc(BUFFER);
	size_t got = 0, used = 1;
	int rc = buffer ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read redo.log");

	while (rc == 0 && from < to && used > 0) {
		size_t want = to - from < BUFFER ? (size_t)(to - from) : BUFFER;

		used = 0;
		rc = sosie_io_pread(j->io, j->file, buffer, want, from, &got, err);
		if (rc == 0)
			rc = each_of(buffer, got, fn, arg, &used);
		from += used;
	}
	if (end)
		*end = from;
	free(buffer);
	return rc;
}

uint64_t journal_bytes(const struct journal_entry *e, uint64_t volume_size)
{
	uint64_t tail = volume_size % SOSIE_LEAF, bytes = (uint64_t)e->leaves * SOSIE_LEAF;

	return e->last_leaf && tail ? bytes - (SOSIE_LEAF - tail) : bytes;
}

uint64_t journal_check(const struct sosie_digest block[SOSIE_FANOUT])
{
	uint64_t h = 0xcbf29ce484222325u, word;

	for (unsigned i = 0; i < SOSIE_FANOUT; i++) {
		memcpy(&word, block[i].b, sizeof(word));
		h = mix(h, word);
	}
	return h;
}
