/* SPDX-License-Identifier: MIT */
/*
 * Room for an upload that waits: what its parts really say, and what is asked of retention for it.
 *
 * A manifest's counters are its sender's word, and points that are only wished go for good. So they go only
 * for parts that lie in the inbox in full length, for the content that the headers of their records add up
 * to: a manifest that counts more is a lie. A header of a few bytes may still claim 1 MiB of content, and
 * a part may have holes. What is claimed beyond the bytes that are there makes no room when it is more than
 * twice what the group's volumes hold by the newest point: no honest segment writes more of them, one that
 * was broken off and resumed included.
 *
 * Read are headers, a block at a time where records are small: never more than the parts' bytes, once for
 * each upload. A receiver that changes a part afterwards gains nothing over sending it so.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"
#include "sosie/bytes.h"

#define BLOCK 16384u
#define ASK_RECORDS 256u /* from one look for somebody who waits for the group to the next */

struct scan {
	struct sosie_group *g;
	struct sosie_file *file;
	uint64_t at, length;          /* of the part */
	uint64_t block_at, block_len; /* what block holds of it */
	uint64_t records;             /* of this part */
	uint64_t plain, unpaid;       /* of all parts: content; what no bytes on the disk stand for */
	uint8_t block[BLOCK];
};

static int lie(struct sosie_err *err, const char *what)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "%s", what);
}

/* The header at s->at, good until the next call. */
static int header(struct scan *s, const uint8_t **out, struct sosie_err *err)
{
	const uint64_t left = s->length - s->at;
	size_t got = 0;
	if (left < SOSIE_RECORD_HEADER)
		return lie(err, "a part ends within a record");
	if (s->at < s->block_at || s->at + SOSIE_RECORD_HEADER > s->block_at + s->block_len) {
		int rc = sosie_io_pread(s->g->store->io, s->file, s->block, left < BLOCK ? left : BLOCK,
		                        s->at, &got, err);
		if (rc)
			return rc;
		s->block_at = s->at;
		s->block_len = got;
		if (got < SOSIE_RECORD_HEADER)
			return lie(err, "a part became shorter");
	}
	*out = s->block + (s->at - s->block_at);
	return 0;
}

static int scan_record(struct scan *s, struct sosie_err *err)
{
	const uint8_t *bytes = NULL;
	uint32_t ranges, payload, plain;
	struct sosie_reader r;
	int rc = header(s, &bytes, err);
	if (!rc)
		rc = sosie_record_lengths(bytes, &ranges, &payload, err);
	if (rc)
		return rc;
	sosie_reader_init(&r, bytes + 8, 4);
	plain = sosie_get_u32(&r);
	const uint64_t total = SOSIE_RECORD_HEADER + (uint64_t)ranges + payload;
	if (total > s->length - s->at)
		return lie(err, "a part ends within a record");
	/* At least 48 bytes of a file for at most 1 MiB: no sum overflows. */
	s->plain += plain;
	s->unpaid += plain > payload ? plain - payload : 0;
	s->at += total;
	s->records++;
	return 0;
}

static int scan_part(struct scan *s, const struct upload *u, unsigned part,
                     const struct sosie_manifest_part *said, struct sosie_err *err)
{
	struct sosie_io *io = s->g->store->io;
	struct sosie_stat st;
	int rc = upload_open_part(s->g, u, part, said->length, &s->file, err);
	if (!rc)
		rc = sosie_io_fstat(io, s->file, &st, err);
	if (!rc && st.allocated < said->length)
		s->unpaid += said->length - st.allocated;
	s->at = s->records = s->block_at = s->block_len = 0;
	s->length = said->length;
	while (!rc && s->at < s->length && s->records < said->records) {
		rc = scan_record(s, err);
		if (!rc && s->records % ASK_RECORDS == 0 && sosie_group_wanted(s->g))
			rc = sosie_err_set(err, SOSIE_EBUSY, "another command waits for the group");
	}
	if (!rc && (s->at < s->length || s->records < said->records))
		rc = lie(err, "a part does not have the number of records that the manifest says");
	sosie_io_close(io, s->file, NULL);
	s->file = NULL;
	return rc;
}

/* Content that the group's volumes may have by the newest point. */
static int volumes_bytes(struct sosie_group *g, uint64_t *out, struct sosie_err *err)
{
	struct sosie_head *head = malloc(sizeof(*head));
	*out = 0;
	if (!head)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look at an upload");
	sosie_group_head(g, head);
	for (unsigned i = 0; i < head->volume_count; i++)
		*out += head->volumes[i].size; /* 256 of at most 1 PiB */
	free(head);
	return 0;
}

static int scan_all(struct sosie_group *g, const struct upload *u, const struct sosie_manifest *m, bool *may,
                    struct sosie_err *err)
{
	uint64_t volumes;
	struct scan *s = calloc(1, sizeof(*s));
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look at an upload");
	s->g = g;
	int rc = volumes_bytes(g, &volumes, err);
	for (unsigned i = 0; !rc && i < m->part_count; i++)
		rc = scan_part(s, u, i, &m->parts[i], err);
	if (!rc && m->plain > s->plain)
		rc = sosie_err_set(err, SOSIE_ECORRUPT,
		                   "the manifest counts %llu bytes of content, its records have %llu",
		                   (unsigned long long)m->plain, (unsigned long long)s->plain);
	*may = !rc && s->unpaid <= 2 * volumes;
	free(s);
	return rc;
}

/* --- what was seen, and asked for
 * ------------------------------------------------------------------------------------------------- */

static struct room_memo *memo_of(struct sosie_group *g)
{
	struct store_memo *memo = memo_find(g->store, g->tenant.s, g->name.s);
	return memo ? &memo->room : NULL;
}

static bool same_upload(const struct sosie_upload_id *a, const struct sosie_upload_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

int room_check(struct sosie_group *g, const struct upload *u, const struct sosie_manifest *m,
               const struct sosie_digest *manifest, bool *may, struct sosie_err *err)
{
	struct room_memo *memo = memo_of(g);
	*may = false;
	for (unsigned i = 0; memo && i < ROOM_SEEN; i++)
		if (memo->seen[i].there && same_upload(&memo->seen[i].upload, &u->id) &&
		    sosie_digest_equal(&memo->seen[i].manifest, manifest)) {
			*may = memo->seen[i].may;
			return 0;
		}
	int rc = scan_all(g, u, m, may, err);
	if (rc || !memo)
		return rc;
	memo->seen[memo->next++ % ROOM_SEEN] =
	        (struct room_seen){.there = true, .upload = u->id, .manifest = *manifest, .may = *may};
	return 0;
}

bool room_ask(struct sosie_group *g, const struct upload *u, uint64_t need)
{
	struct store_memo *memo = memo_find(g->store, g->tenant.s, g->name.s);
	if (!memo)
		return false;
	memo->room.need_bytes = need;
	memo->room.upload = u->id;
	memo->retain_ms = 0;
	return true;
}

void room_forget(struct sosie_group *g, const struct sosie_upload_id *id)
{
	struct room_memo *memo = memo_of(g);
	if (memo && (!id || same_upload(&memo->upload, id)))
		memo->need_bytes = 0;
}

uint64_t room_asked(struct sosie_group *g, struct sosie_upload_id *id)
{
	struct room_memo *memo = memo_of(g);
	if (!memo || !memo->need_bytes)
		return 0;
	if (!upload_committed(g, &memo->upload))
		memo->need_bytes = 0;
	*id = memo->upload;
	return memo->need_bytes;
}
