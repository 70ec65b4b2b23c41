/* SPDX-License-Identifier: MIT */
/*
 * Reading a chain at open: every header, its place and its link to the entry before; of the last entry the
 * body too. What is wrong at the very end of the newest file, with nothing whole behind it, is the torn write
 * of a crash; anything else is damage.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"

/* A window over the file that is scanned. */
struct scan {
	struct sosie_chain *c;
	struct sosie_file *file;
	char path[STORE_PATH];
	uint32_t number;
	uint64_t size, window_at;
	size_t window_len;
	uint8_t *window; /* STORE_BLOCK */
};

static int look(struct scan *s, uint64_t at, size_t len, const uint8_t **out, struct sosie_err *err)
{
	if (at < s->window_at || at + len > s->window_at + s->window_len) {
		int rc = sosie_io_pread(s->c->io, s->file, s->window, STORE_BLOCK, at, &s->window_len, err);
		if (rc)
			return rc;
		s->window_at = at;
		if (s->window_len < len)
			return sosie_err_set(err, SOSIE_EIO, "%s became shorter while it was read", s->path);
	}
	*out = s->window + (at - s->window_at);
	return 0;
}

static int body_at(struct scan *s, const struct chain_entry *e, uint8_t **body, struct sosie_err *err)
{
	size_t got = 0;
	*body = malloc(e->body_len ? e->body_len : 1);
	if (!*body)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read %s", s->path);
	int rc = sosie_io_pread(s->c->io, s->file, *body, e->body_len, e->offset + CHAIN_HEADER, &got, err);
	if (!rc && got < e->body_len)
		rc = sosie_err_set(err, SOSIE_EIO, "%s became shorter while it was read", s->path);
	return rc;
}

/* Is the entry at `at` whole, its own digest right? */
static int entry_whole(struct scan *s, uint64_t at, struct chain_entry *e, bool *whole, struct sosie_err *err)
{
	const uint8_t *p;
	uint8_t *body = NULL;
	struct sosie_digest d;
	*whole = false;
	if (s->size - at < CHAIN_HEADER + CHAIN_TAIL)
		return 0;
	int rc = look(s, at, CHAIN_HEADER, &p, err);
	if (rc || !chain_get_header(p, e) || e->body_len > s->size - at - CHAIN_HEADER - CHAIN_TAIL)
		return rc;
	e->offset = at;
	e->file = s->number;
	rc = look(s, at + CHAIN_HEADER + e->body_len, CHAIN_TAIL, &p, err);
	if (!rc) {
		memcpy(e->digest.b, p, CHAIN_TAIL);
		rc = body_at(s, e, &body, err);
	}
	if (!rc) {
		chain_entry_digest(s->c->hash, e, body, &d);
		*whole = sosie_digest_equal(&d, &e->digest);
	}
	free(body);
	return rc;
}

/* Does a whole entry begin anywhere after `at`? Then what is at `at` is no torn end. */
static int whole_behind(struct scan *s, uint64_t at, bool *found, struct sosie_err *err)
{
	struct chain_entry e;
	const uint8_t *p;
	*found = s->size - at > CHAIN_ENTRY_MAX;
	for (at++; !*found && s->size - at >= CHAIN_HEADER + CHAIN_TAIL && at < s->size; at++) {
		int rc = look(s, at, 4, &p, err);
		if (!rc && memcmp(p, "SCHN", 4) == 0)
			rc = entry_whole(s, at, &e, found, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int damaged(struct scan *s, uint64_t at, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECORRUPT, "the chain is damaged: %s at offset %llu", s->path,
	              (unsigned long long)at);
	sosie_err_where(err, "%s", s->path);
	return sosie_err_action(err, "restore this file from a copy of the store; see \"sosie verify\"");
}

/* Header and links of the entry at `at`; *good false: not an entry that fits here. */
static int scan_entry(struct scan *s, uint64_t at, struct chain_entry *e, bool *good, struct sosie_err *err)
{
	const struct sosie_chain *c = s->c;
	const struct sosie_digest *before = c->count ? &c->entries[c->count - 1].digest : &c->genesis;
	const uint8_t *p;
	*good = false;
	if (s->size - at < CHAIN_HEADER + CHAIN_TAIL)
		return 0;
	int rc = look(s, at, CHAIN_HEADER, &p, err);
	if (rc || !chain_get_header(p, e) || e->body_len > s->size - at - CHAIN_HEADER - CHAIN_TAIL)
		return rc;
	e->offset = at;
	e->file = s->number;
	rc = look(s, at + CHAIN_HEADER + e->body_len, CHAIN_TAIL, &p, err);
	if (rc)
		return rc;
	memcpy(e->digest.b, p, CHAIN_TAIL);
	*good = sosie_digest_equal(&e->previous, before) &&
	        e->point == c->newest_point + (e->kind == CHAIN_POINT ? 1 : 0);
	return 0;
}

/* Keeps a torn end aside and cuts it off. */
static int cut_torn(struct scan *s, uint64_t at, struct sosie_err *err)
{
	char aside[STORE_PATH], stamp[SOSIE_TIME_TEXT];
	uint64_t len = s->size - at;
	size_t got = 0;
	struct sosie_file *f = NULL;
	uint8_t *bytes = malloc(len);
	sosie_time_text(stamp, sosie_wall_ms(s->c->clock));
	int rc = bytes ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to repair %s", s->path);
	if (!rc)
		rc = store_path(aside, err, "%s/torn-%s", s->c->dir, stamp);
	if (!rc)
		rc = sosie_io_pread(s->c->io, s->file, bytes, len, at, &got, err);
	if (!rc)
		rc = sosie_io_write_file(s->c->io, aside, bytes, got, 0440, err);
	if (!rc)
		rc = sosie_io_openat(s->c->io, s->path, SOSIE_READ | SOSIE_WRITE, 0, &f, err);
	if (!rc)
		rc = sosie_io_truncate(s->c->io, f, at, err);
	if (!rc)
		rc = sosie_io_fsync(s->c->io, f, err);
	sosie_io_close(s->c->io, f, NULL);
	free(bytes);
	return rc;
}

static int bad_entry(struct scan *s, uint64_t at, bool newest, bool repair, struct sosie_err *err)
{
	bool behind = true;
	int rc = newest ? whole_behind(s, at, &behind, err) : 0;
	if (rc)
		return rc;
	if (behind)
		return damaged(s, at, err);
	s->c->newest_size = at;
	return repair ? cut_torn(s, at, err) : 0;
}

/* The last entry of the newest file is the one that a crash may have torn inside its body. */
static int last_is_torn(struct scan *s, const struct chain_entry *e, bool *torn, struct sosie_err *err)
{
	struct chain_entry again;
	bool whole;
	int rc = entry_whole(s, e->offset, &again, &whole, err);
	*torn = !rc && !whole;
	return rc;
}

static int scan_entries(struct scan *s, bool newest, bool repair, struct sosie_err *err)
{
	uint64_t at = 0;
	while (at < s->size) {
		struct chain_entry e;
		bool good = false, torn = false;
		int rc = scan_entry(s, at, &e, &good, err);
		if (!rc && good && newest && at + CHAIN_HEADER + e.body_len + CHAIN_TAIL == s->size)
			rc = last_is_torn(s, &e, &torn, err);
		if (rc)
			return rc;
		if (!good || torn)
			return bad_entry(s, at, newest, repair, err);
		rc = chain_take(s->c, &e, err);
		if (rc)
			return rc;
		at += CHAIN_HEADER + (uint64_t)e.body_len + CHAIN_TAIL;
		s->c->newest_size = at;
	}
	return 0;
}

static int scan_file(struct sosie_chain *c, uint32_t number, bool newest, bool repair, struct sosie_err *err)
{
	struct scan *s = calloc(1, sizeof(*s));
	struct sosie_stat st;
	if (!s || !(s->window = malloc(STORE_BLOCK))) {
		free(s);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read the chain in %s", c->dir);
	}
	s->c = c;
	s->number = number;
	c->newest_file = number;
	c->newest_size = 0;
	int rc = chain_file_path(c, number, s->path, err);
	if (!rc)
		rc = sosie_io_openat(c->io, s->path, SOSIE_READ, 0, &s->file, err);
	if (!rc)
		rc = sosie_io_fstat(c->io, s->file, &st, err);
	if (!rc) {
		s->size = st.size;
		rc = scan_entries(s, newest, repair, err);
	}
	sosie_io_close(c->io, s->file, NULL);
	free(s->window);
	free(s);
	return rc;
}

static int newest_number(void *arg, const char *name, enum sosie_file_kind kind)
{
	uint32_t *newest = arg, n = 0;
	if (kind != SOSIE_KIND_FILE || strlen(name) != 12 || strcmp(name + 6, ".chain") != 0)
		return 0;
	for (int i = 0; i < 6; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		n = n * 10 + (uint32_t)(name[i] - '0');
	}
	if (n > *newest)
		*newest = n;
	return 0;
}

int chain_scan(struct sosie_chain *c, bool repair, struct sosie_err *err)
{
	uint32_t files = 0;
	int rc = sosie_io_list(c->io, c->dir, newest_number, &files, err);
	if (rc > 0)
		rc = 0;
	for (uint32_t n = 1; !rc && n <= files; n++)
		rc = scan_file(c, n, n == files, repair, err);
	return rc;
}
