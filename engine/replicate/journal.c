/* SPDX-License-Identifier: MIT */
/* pending.log; layout in journal.h. */
#include <string.h>

#include "engine/replicate/journal.h"
#include "sosie/bytes.h"

#define READ_ENTRIES 512u

int journal_open(struct journal *j, struct sosie_io *io, const char *path, bool fresh, struct sosie_err *err)
{
	unsigned flags = SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | (fresh ? SOSIE_TRUNC : 0u);
	struct sosie_stat st;
	int rc = sosie_io_openat(io, path, flags, 0600, &j->file, err);

	j->io = io;
	if (rc != 0) {
		j->file = NULL;
		return rc;
	}
	rc = sosie_io_fstat(io, j->file, &st, err);
	j->size = rc == 0 ? st.size - st.size % JOURNAL_ENTRY : 0;
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

int journal_append(struct journal *j, const struct journal_entry *e, struct sosie_err *err)
{
	uint8_t bytes[JOURNAL_ENTRY];
	struct sosie_writer w;
	int rc;

	sosie_writer_init(&w, bytes, sizeof(bytes));
	sosie_put_u32(&w, e->part);
	sosie_put_u16(&w, e->volume);
	sosie_put_u16(&w, (uint16_t)((unsigned)e->kind << 13 | (e->last_leaf ? 1u << 12 : 0u) | e->leaves));
	sosie_put_u64(&w, e->chunk);
	sosie_put_u64(&w, e->end);
	sosie_put_bytes(&w, e->chain.b, sizeof(e->chain.b));
	sosie_put_u64(&w, e->check);
	rc = sosie_io_pwrite(j->io, j->file, bytes, sizeof(bytes), j->size, err);
	if (rc == 0)
		j->size += sizeof(bytes);
	return rc;
}

static bool get_entry(const uint8_t *bytes, struct journal_entry *e)
{
	struct sosie_reader r;
	unsigned facts;

	sosie_reader_init(&r, bytes, JOURNAL_ENTRY);
	e->part = sosie_get_u32(&r);
	e->volume = sosie_get_u16(&r);
	facts = sosie_get_u16(&r);
	e->chunk = sosie_get_u64(&r);
	e->end = sosie_get_u64(&r);
	sosie_get_bytes(&r, e->chain.b, sizeof(e->chain.b));
	e->check = sosie_get_u64(&r);
	e->kind = (enum sosie_record_kind)(facts >> 13);
	e->last_leaf = facts >> 12 & 1;
	e->leaves = facts & 0xfff;
	return sosie_reader_done(&r) && e->part < SOSIE_PARTS_MAX && e->kind != 0 &&
	       e->leaves <= SOSIE_FANOUT && e->end > 0;
}

int journal_each(struct journal *j, journal_fn fn, void *arg, struct sosie_err *err)
{
	uint8_t bytes[READ_ENTRIES * JOURNAL_ENTRY];
	uint64_t at = 0;

	while (at < j->size) {
		size_t want = j->size - at < sizeof(bytes) ? (size_t)(j->size - at) : sizeof(bytes), got;
		int rc = sosie_io_pread(j->io, j->file, bytes, want, at, &got, err);

		if (rc != 0)
			return rc;
		for (size_t i = 0; i + JOURNAL_ENTRY <= got; i += JOURNAL_ENTRY) {
			struct journal_entry e;

			if (!get_entry(bytes + i, &e))
				return 0;
			rc = fn(arg, &e);
			if (rc != 0)
				return rc;
		}
		if (got < want)
			return 0;
		at += got;
	}
	return 0;
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
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	return h;
}
