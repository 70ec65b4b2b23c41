/* SPDX-License-Identifier: MIT */
/*
 * What a manifest's struct must be, wherever it comes from (docs/format.md, "Manifest"), and the summary in
 * which it crosses from a child that may lie. Sums are bounded before they are made. Messages quote nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/manifest.h"
#include "sosie/bytes.h"
#include "sosie/clock.h"
#include "sosie/tree.h"

static int damaged(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "manifest refused: %s", why);
}

/* --- the checks
 * ------------------------------------------------------------------------------------------------ */

static int check_name(const struct sosie_name *name, enum sosie_name_kind kind, struct sosie_err *err)
{
	static const char *const words[] = {[SOSIE_NAME_TENANT] = "tenant",
	                                    [SOSIE_NAME_GROUP] = "group",
	                                    [SOSIE_NAME_VOLUME] = "volume",
	                                    [SOSIE_NAME_ATTACHMENT] = "attachment"};
	struct sosie_name same;

	if (sosie_name_set(&same, kind, name->s, NULL) == 0)
		return 0;
	return sosie_err_set(err, SOSIE_ENAME,
	                     "manifest refused: a name of a %s has characters that are not allowed",
	                     words[kind]);
}

static int check_volumes(const struct sosie_manifest *m, struct sosie_err *err)
{
	int rc = m->volume_count == 0 ? damaged(err, "no volume") : 0;

	for (unsigned i = 0; rc == 0 && i < m->volume_count; i++) {
		rc = check_name(&m->volumes[i].name, SOSIE_NAME_VOLUME, err);
		if (rc == 0 && m->volumes[i].size == 0)
			rc = damaged(err, "a volume of size 0");
		if (rc == 0 && m->volumes[i].size > SOSIE_VOLUME_MAX)
			rc = damaged(err, "a volume larger than any can be");
		for (unsigned k = 0; rc == 0 && k < i; k++)
			if (strcmp(m->volumes[k].name.s, m->volumes[i].name.s) == 0)
				rc = damaged(err, "a volume is listed twice");
	}
	return rc;
}

static int check_attachments(const struct sosie_manifest *m, struct sosie_err *err)
{
	uint64_t total = 0; /* at most 256 * 64 MiB */
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->attachment_count; i++) {
		const struct sosie_manifest_attachment *a = &m->attachments[i];

		rc = check_name(&a->name, SOSIE_NAME_ATTACHMENT, err);
		if (rc == 0 && a->size > SOSIE_ATTACHMENTS_BYTES)
			rc = damaged(err, "attachments of more than 64 MiB");
		for (unsigned k = 0; rc == 0 && k < i; k++)
			if (strcmp(m->attachments[k].name.s, a->name.s) == 0)
				rc = damaged(err, "an attachment is listed twice");
		total += rc == 0 ? a->size : 0;
	}
	if (rc == 0 && total > SOSIE_ATTACHMENTS_BYTES)
		rc = damaged(err, "attachments of more than 64 MiB");
	return rc;
}

/* Length and number of records must be possible together. */
static bool part_fits(const struct sosie_manifest *m, const struct sosie_manifest_part *p)
{
	uint64_t least = SOSIE_RECORD_HEADER, most = SOSIE_RECORD_MAX;

	if (m->kind == SOSIE_MANIFEST_COMPARE)
		least = most = SOSIE_COMPARE_ENTRY;
	if (p->length > MANIFEST_BYTES_MAX || p->records > MANIFEST_BYTES_MAX / least)
		return false;
	return p->length >= p->records * least && p->length / most + (p->length % most != 0) <= p->records;
}

static int check_parts(const struct sosie_manifest *m, struct sosie_err *err)
{
	uint64_t total = 0; /* at most 4096 * 2^60 / 48 records, 2^60 bytes */

	if (m->kind == SOSIE_MANIFEST_COMPARE && m->part_count != 1)
		return damaged(err, "a comparison has exactly one part");
	for (unsigned i = 0; i < m->part_count; i++) {
		if (!part_fits(m, &m->parts[i]))
			return damaged(err, "length and number of records of a part do not fit each other");
		total += m->parts[i].length;
		if (total > MANIFEST_BYTES_MAX)
			return damaged(err, "parts of an impossible length in all");
	}
	return 0;
}

/* Blocks of the level that a volume of this size has; at least 1. */
static uint64_t blocks_of(uint64_t size, unsigned level)
{
	uint64_t each = (uint64_t)SOSIE_CHUNK << (8 * level);

	return size / each + (size % each != 0);
}

static int check_asks(const struct sosie_manifest *m, struct sosie_err *err)
{
	if (m->ask_count == 0)
		return damaged(err, "a comparison that asks for nothing");
	for (unsigned i = 0; i < m->ask_count; i++) {
		const struct sosie_manifest_ask *a = &m->asks[i];
		uint64_t blocks;

		if (a->volume >= m->volume_count || a->level >= SOSIE_TREE_LEVELS)
			return damaged(err, "a comparison asks for a volume or level that there is not");
		blocks = blocks_of(m->volumes[a->volume].size, a->level);
		if (a->count == 0 || a->first >= blocks || a->count > blocks - a->first)
			return damaged(err, "a comparison asks for blocks that its volume does not have");
	}
	return 0;
}

/* Parts were checked. */
static int check_counters(const struct sosie_manifest *m, struct sosie_err *err)
{
	uint64_t records = 0;

	if (m->plain > MANIFEST_BYTES_MAX || m->data > MANIFEST_BYTES_MAX || m->zero > MANIFEST_BYTES_MAX ||
	    m->discard > MANIFEST_BYTES_MAX)
		return damaged(err, "counters beyond all sizes");
	for (unsigned i = 0; i < m->part_count; i++)
		records += m->parts[i].records;
	if (m->data > m->plain || m->plain / SOSIE_RECORD_PLAIN_MAX > records ||
	    (m->plain > 0 && records == 0))
		return damaged(err, "counters that its parts cannot hold");
	return 0;
}

static int check_times(const struct sosie_manifest *m, struct sosie_err *err)
{
	char text[SOSIE_TIME_TEXT];
	int64_t again = 0;

	sosie_time_text(text, m->cut_ms); /* clamps what it cannot write */
	if (sosie_time_parse(text, &again, NULL) != 0 || again != m->cut_ms || m->standby_at_ms < 0 ||
	    m->standby_at_ms > MANIFEST_CLOCK_MAX || m->standby_plus_ms > MANIFEST_CLOCK_MAX ||
	    m->standby_plus_ms < -MANIFEST_CLOCK_MAX)
		return damaged(err, "a time beyond all clocks");
	return 0;
}

static int check_segment(const struct sosie_manifest *m, struct sosie_err *err)
{
	int rc = m->epoch == 0 || m->epoch > INT64_MAX ? damaged(err, "epoch 0") : 0;

	if (rc == 0)
		rc = check_times(m, err);
	if (rc == 0 && (unsigned)m->consistency > SOSIE_CONSISTENCY_FUZZY)
		rc = damaged(err, "unknown consistency");
	if (rc == 0)
		rc = check_attachments(m, err);
	if (rc == 0)
		rc = check_counters(m, err);
	for (const char *c = m->software; rc == 0 && *c; c++)
		if (*c < ' ' || *c > '~')
			rc = damaged(err, "software is not named in printable ASCII");
	return rc;
}

int manifest_check(const struct sosie_manifest *m, struct sosie_err *err)
{
	int rc = check_name(&m->tenant, SOSIE_NAME_TENANT, err);

	if (rc == 0)
		rc = check_name(&m->group, SOSIE_NAME_GROUP, err);
	if (rc == 0)
		rc = check_volumes(m, err);
	if (rc == 0)
		rc = check_parts(m, err);
	if (rc != 0)
		return rc;
	return m->kind == SOSIE_MANIFEST_SEGMENT ? check_segment(m, err) : check_asks(m, err);
}

/* --- the summary
 * ----------------------------------------------------------------------------------------------- */

static void put_list(void *dst, const void *src, size_t count, size_t item)
{
	if (count > 0)
		memcpy(dst, src, count * item);
}

void manifest_summarise(const struct sosie_manifest *m, struct manifest_summary *out)
{
	out->kind = m->kind;
	out->consistency = m->consistency;
	out->volume_count = m->volume_count;
	out->attachment_count = m->attachment_count;
	out->part_count = m->part_count;
	out->ask_count = m->ask_count;
	out->epoch = m->epoch;
	out->cut_ms = m->cut_ms;
	out->standby_at_ms = m->standby_at_ms;
	out->standby_plus_ms = m->standby_plus_ms;
	out->plain = m->plain;
	out->data = m->data;
	out->zero = m->zero;
	out->discard = m->discard;
	out->tenant = m->tenant;
	out->group = m->group;
	out->parent = m->parent;
	memcpy(out->software, m->software, sizeof(out->software));
	put_list(out->volumes, m->volumes, m->volume_count, sizeof(*m->volumes));
	put_list(out->attachments, m->attachments, m->attachment_count, sizeof(*m->attachments));
	put_list(out->parts, m->parts, m->part_count, sizeof(*m->parts));
	put_list(out->asks, m->asks, m->ask_count, sizeof(*m->asks));
}

/* Text and its end; what lies behind it in the summary is dropped. */
static bool take_text(char *dst, const char *src, size_t size)
{
	const char *end = memchr(src, '\0', size);

	if (end)
		memcpy(dst, src, (size_t)(end - src)); /* dst is zeroed */
	return end != NULL;
}

static bool take_name(struct sosie_name *dst, const struct sosie_name *src)
{
	return take_text(dst->s, src->s, sizeof(src->s));
}

static bool within_bounds(const struct manifest_summary *s)
{
	const bool compare = s->kind == SOSIE_MANIFEST_COMPARE;

	return (compare || s->kind == SOSIE_MANIFEST_SEGMENT) && s->volume_count <= SOSIE_VOLUMES_MAX &&
	       s->attachment_count <= (compare ? 0 : SOSIE_ATTACHMENTS_MAX) &&
	       s->part_count <= SOSIE_PARTS_MAX && s->ask_count <= (compare ? MANIFEST_ASKS_MAX : 0) &&
	       (compare || s->consistency <= SOSIE_CONSISTENCY_FUZZY);
}

static bool make_lists(const struct manifest_summary *s, struct sosie_manifest *m)
{
	m->volumes = calloc(s->volume_count + 1, sizeof(*m->volumes)); /* none is not NULL */
	m->attachments = calloc(s->attachment_count + 1, sizeof(*m->attachments));
	m->parts = calloc(s->part_count + 1, sizeof(*m->parts));
	m->asks = calloc(s->ask_count + 1, sizeof(*m->asks));
	return m->volumes && m->attachments && m->parts && m->asks;
}

static bool take_lists(const struct manifest_summary *s, struct sosie_manifest *m)
{
	bool whole = true;

	m->volume_count = s->volume_count;
	m->attachment_count = s->attachment_count;
	m->part_count = s->part_count;
	m->ask_count = s->ask_count;
	for (unsigned i = 0; i < m->volume_count; i++) {
		whole &= take_name(&m->volumes[i].name, &s->volumes[i].name);
		m->volumes[i].size = s->volumes[i].size;
		if (m->kind == SOSIE_MANIFEST_SEGMENT)
			m->volumes[i].root = s->volumes[i].root;
	}
	for (unsigned i = 0; i < m->attachment_count; i++) {
		whole &= take_name(&m->attachments[i].name, &s->attachments[i].name);
		m->attachments[i].size = s->attachments[i].size;
		m->attachments[i].sha256 = s->attachments[i].sha256;
	}
	memcpy(m->parts, s->parts, m->part_count * sizeof(*m->parts));
	memcpy(m->asks, s->asks, m->ask_count * sizeof(*m->asks));
	return whole;
}

/* What only a segment has. */
static bool take_segment(const struct manifest_summary *s, struct sosie_manifest *m)
{
	m->epoch = s->epoch;
	m->cut_ms = s->cut_ms;
	m->standby_at_ms = s->standby_at_ms;
	m->standby_plus_ms = s->standby_plus_ms;
	m->consistency = (enum sosie_consistency)s->consistency;
	m->plain = s->plain;
	m->data = s->data;
	m->zero = s->zero;
	m->discard = s->discard;
	return take_text(m->software, s->software, sizeof(s->software));
}

int manifest_of_summary(const struct manifest_summary *s, struct sosie_manifest *out, struct sosie_err *err)
{
	bool whole;
	int rc;

	memset(out, 0, sizeof(*out));
	if (!within_bounds(s))
		return damaged(err, "it has more than any manifest can have");
	if (!make_lists(s, out)) {
		sosie_manifest_fini(out);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a manifest");
	}
	out->kind = (enum sosie_manifest_kind)s->kind;
	out->parent = s->parent;
	whole = take_name(&out->tenant, &s->tenant) && take_name(&out->group, &s->group);
	whole &= take_lists(s, out);
	if (out->kind == SOSIE_MANIFEST_SEGMENT)
		whole &= take_segment(s, out);
	rc = whole ? manifest_check(out, err) : damaged(err, "a name in it has no end");
	if (rc != 0)
		sosie_manifest_fini(out);
	return rc;
}
