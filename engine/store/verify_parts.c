/* SPDX-License-Identifier: MIT */
/*
 * The part files of the journal against their manifest: length, records, part chain. The chain covers every
 * stored byte; when it differs the records are decoded one by one to name the first whose own digest is
 * wrong. What a patch or delta holds cannot be told without the images that it builds on: the chain covers
 * it, and a replay decodes it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/verify.h"

struct part {
	struct verify *w;
	const struct sosie_manifest *m;
	struct sosie_extent_volume *volumes;
	unsigned index;
	char path[STORE_PATH];
	struct sosie_file *file;
	struct sosie_record record;
	uint64_t untold; /* records that cannot be decoded without images */
};

/* Header and ranges of a record that stream_record gave whole. */
static int parse_record(struct part *p, const uint8_t *bytes, struct sosie_err *err)
{
	uint32_t ranges_len, payload_len;
	int rc = sosie_record_lengths(bytes, &ranges_len, &payload_len, err);

	if (rc < 0)
		return rc;
	return sosie_record_parse(bytes, SOSIE_RECORD_HEADER + (size_t)ranges_len, p->volumes,
	                          p->m->volume_count, &p->record, err);
}

/* Reads the part's records and chains them; *at: offset of the record that could not be read. */
static int chain_records(struct part *p, struct sosie_digest *chain, uint64_t *records, uint64_t *at,
                         struct sosie_err *err)
{
	const struct sosie_manifest_part *named = &p->m->parts[p->index];
	struct part_stream s;
	const uint8_t *bytes;
	size_t len = 1;
	int rc = 0;

	*records = *at = 0;
	sosie_part_start(p->w->g->hash, &p->w->group_ctx, p->index, chain);
	stream_start(&s, p->w->io, p->file, named->length, p->w->ring, p->w->scratch);
	while (rc == 0 && len > 0) {
		rc = stream_record(&s, &bytes, &len, err);
		if (rc < 0 || len == 0)
			break;
		rc = parse_record(p, bytes, err);
		sosie_part_link(p->w->g->hash, bytes, len, chain);
		stream_skip(&s, len);
		if (rc < 0)
			break;
		*at += len;
		*records += 1;
		p->w->v->part_bytes += len;
		sosie_progress(p->w->v->progress, "reading the journal", p->w->v->part_bytes, 0);
	}
	stream_stop(&s);
	return rc;
}

/* Whether the content of the record that was parsed is what its digest says; true where that cannot be told.
 * Decoded as the keeper does it: in a confined child. */
static int record_fits(struct part *p, struct decode_pool *pool, struct decode_job *job, const uint8_t *bytes,
                       bool *fits, struct sosie_err *err)
{
	const size_t head = SOSIE_RECORD_HEADER + (size_t)p->record.range_count * SOSIE_RANGE_BYTES;

	*fits = true;
	if (p->record.kind == SOSIE_RECORD_PATCH || p->record.kind == SOSIE_RECORD_DELTA) {
		p->untold++;
		return 0;
	}
	job->record = p->record;
	job->payload = bytes + head;
	job->plain = p->w->chunk;
	decode_pool_give(pool, job);
	decode_pool_wait(pool, job);
	*fits = job->rc == 0;
	if (job->rc != -SOSIE_ENOMEM)
		return 0;
	if (err)
		*err = job->err;
	return job->rc;
}

static int look_for_bad_record(struct part *p, struct decode_pool *pool, struct decode_job *job, uint64_t *at,
                               struct sosie_err *err)
{
	struct part_stream s;
	const uint8_t *bytes;
	uint64_t offset = 0;
	size_t len = 1;
	bool fits = true;
	int rc = 0;

	stream_start(&s, p->w->io, p->file, p->m->parts[p->index].length, p->w->ring, p->w->scratch);
	while (rc == 0 && fits) {
		if (stream_record(&s, &bytes, &len, NULL) < 0 || len == 0 || parse_record(p, bytes, NULL) < 0)
			break;
		rc = record_fits(p, pool, job, bytes, &fits, err);
		if (!fits)
			*at = offset;
		offset += len;
		stream_skip(&s, len);
	}
	stream_stop(&s);
	return rc;
}

/* The first record whose content is not what its digest says; *at UINT64_MAX when none is. */
static int find_bad_record(struct part *p, uint64_t *at, struct sosie_err *err)
{
	struct decode_place place = {
	        .clock = p->w->g->store->clock, .tenant = p->w->g->tenant.s, .group_ctx = &p->w->group_ctx};
	struct decode_pool *pool = NULL;
	struct decode_job *job = calloc(1, sizeof(*job));
	int rc = job ? store_home(p->w->g->store, &place.home, err)
	             : sosie_err_set(err, SOSIE_ENOMEM, "no memory to verify records");

	*at = UINT64_MAX;
	p->untold = 0;
	if (rc == 0)
		rc = decode_pool_new(&place, p->volumes, false, &pool, err);
	if (rc == 0)
		rc = look_for_bad_record(p, pool, job, at, err);
	decode_pool_free(pool);
	free(job);
	return rc;
}

static int tell_wrong_chain(struct part *p, struct sosie_err *err)
{
	uint64_t at;
	int rc = find_bad_record(p, &at, err);

	if (rc < 0)
		return rc;
	if (at == UINT64_MAX && p->untold > 0)
		verify_damage(
		        p->w, p->path,
		        "its records are not those that the manifest names; the damage may be in a patch or "
		        "delta (%llu records), whose content cannot be told without images",
		        (unsigned long long)p->untold);
	else if (at == UINT64_MAX)
		verify_damage(p->w, p->path,
		              "its records are whole, but are not those that the manifest names");
	else
		verify_damage(p->w, p->path, "record at offset %llu: the content is not what its digest says",
		              (unsigned long long)at);
	return 0;
}

static int check_open_part(struct part *p, struct sosie_err *err)
{
	const struct sosie_manifest_part *named = &p->m->parts[p->index];
	struct sosie_digest chain;
	struct sosie_stat st;
	struct sosie_err failure;
	uint64_t records, at;
	int rc = sosie_io_fstat(p->w->io, p->file, &st, &failure);

	if (rc < 0)
		return verify_failure(p->w, rc, p->path, &failure, err);
	if (st.size != named->length) {
		verify_damage(p->w, p->path, "it has %llu bytes, the manifest says %llu",
		              (unsigned long long)st.size, (unsigned long long)named->length);
		if (st.size < named->length)
			return 0;
	}
	rc = chain_records(p, &chain, &records, &at, &failure);
	if (rc < 0) {
		sosie_err_wrap(&failure, "record at offset %llu", (unsigned long long)at);
		return verify_failure(p->w, rc, p->path, &failure, err);
	}
	if (records != named->records)
		verify_damage(p->w, p->path, "it has %llu records, the manifest says %llu",
		              (unsigned long long)records, (unsigned long long)named->records);
	else if (!sosie_digest_equal(&chain, &named->digest))
		return tell_wrong_chain(p, err);
	return 0;
}

static int check_part(struct part *p, uint64_t point, struct sosie_err *err)
{
	struct sosie_err failure;
	int rc = journal_part_path(p->w->g, point, p->index, p->path, err);

	if (rc < 0)
		return rc;
	p->w->v->parts++;
	rc = sosie_io_openat(p->w->io, p->path, SOSIE_READ, 0, &p->file, &failure);
	if (rc == -SOSIE_ENOTFOUND && verify_pruned(p->w, point))
		return 0;
	if (rc == -SOSIE_ENOTFOUND) {
		verify_damage(p->w, p->path, "it is missing: point %llu cannot be made from the journal",
		              (unsigned long long)point);
		return 0;
	}
	if (rc < 0)
		return verify_failure(p->w, rc, p->path, &failure, err);
	rc = check_open_part(p, err);
	(void)sosie_io_close(p->w->io, p->file, NULL);
	return rc;
}

int verify_parts(struct verify *w, uint64_t point, const struct sosie_manifest *m, struct sosie_err *err)
{
	struct part *p = calloc(1, sizeof(*p));
	int rc = 0;

	if (p)
		p->volumes = calloc(m->volume_count, sizeof(*p->volumes));
	if (!p || !p->volumes) {
		free(p);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to verify %s/%s", w->g->tenant.s,
		                     w->g->name.s);
	}
	p->w = w;
	p->m = m;
	for (unsigned i = 0; i < m->volume_count; i++) {
		p->volumes[i].size = m->volumes[i].size;
		sosie_context_volume(w->g->hash, w->g->tenant.s, w->g->name.s, m->volumes[i].name.s,
		                     &p->volumes[i].ctx);
	}
	for (p->index = 0; rc == 0 && p->index < m->part_count; p->index++)
		rc = check_part(p, point, err);
	free(p->volumes);
	free(p);
	return rc;
}
