/* SPDX-License-Identifier: MIT */
/*
 * Reading a chain at open: every header, its place and its link to the entry before; of the last entry the
 * body too. Or going on behind what was read before. What is wrong at the very end of the newest file, with
 * nothing whole behind it, is the torn write of a crash; anything else is damage.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"

/* A window over the file that is scanned. */
struct scan {
	struct sosie_chain *c;
	chain_each_fn each; /* NULL: bodies are not looked at */
	void *arg;
	struct sosie_file *file;
	char path[STORE_PATH];
	uint32_t number;
	uint64_t from; /* of the first file: what is before is known */
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

/* malloc'd, with a NUL behind it. */
static int body_at(struct scan *s, const struct chain_entry *e, uint8_t **body, struct sosie_err *err)
{
	size_t got = 0;
	*body = malloc((size_t)e->body_len + 1);
	if (!*body)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read %s", s->path);
	int rc = sosie_io_pread(s->c->io, s->file, *body, e->body_len, e->offset + CHAIN_HEADER, &got, err);
	if (!rc && got < e->body_len)
		rc = sosie_err_set(err, SOSIE_EIO, "%s became shorter while it was read", s->path);
	(*body)[got] = '\0';
	return rc;
}

/* Does the entry, whose header and tail were read, have its digest? The caller frees *body. */
static int body_whole(struct scan *s, const struct chain_entry *e, uint8_t **body, bool *whole,
                      struct sosie_err *err)
{
	struct sosie_digest d;
	int rc = body_at(s, e, body, err);
	if (!rc) {
		chain_entry_digest(s->c->hash, e, *body, &d);
		*whole = sosie_digest_equal(&d, &e->digest);
	}
	return rc;
}

/* Is the entry at `at` whole, its own digest right? */
static int entry_whole(struct scan *s, uint64_t at, struct chain_entry *e, bool *whole, struct sosie_err *err)
{
	const uint8_t *p;
	uint8_t *body = NULL;
	*whole = false;
	if (s->size - at < CHAIN_HEADER + CHAIN_TAIL)
		return 0;
	int rc = look(s, at, CHAIN_HEADER, &p, err);
	if (rc || !chain_get_header(s->c->format, p, e) ||
	    e->body_len > s->size - at - CHAIN_HEADER - CHAIN_TAIL)
		return rc;
	e->offset = at;
	e->file = s->number;
	rc = look(s, at + CHAIN_HEADER + e->body_len, CHAIN_TAIL, &p, err);
	if (!rc) {
		memcpy(e->digest.b, p, CHAIN_TAIL);
		rc = body_whole(s, e, &body, whole, err);
	}
	free(body);
	return rc;
}

/* Does a whole entry begin anywhere after `at`? Then what is at `at` is no torn end. */
static int whole_behind(struct scan *s, uint64_t at, bool *found, struct sosie_err *err)
{
	struct chain_entry e;
	const uint8_t *p;
	*found = s->size - at > CHAIN_HEADER + (uint64_t)s->c->format->body_max + CHAIN_TAIL;
	for (at++; !*found && s->size - at >= CHAIN_HEADER + CHAIN_TAIL && at < s->size; at++) {
		int rc = look(s, at, 4, &p, err);
		if (!rc && memcmp(p, s->c->format->magic, 4) == 0)
			rc = entry_whole(s, at, &e, found, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int damaged(struct scan *s, uint64_t at, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECORRUPT, "the %s is damaged: %s at offset %llu", s->c->format->name,
	              s->path, (unsigned long long)at);
	sosie_err_where(err, "%s", s->path);
	return sosie_err_action(err, "restore this file from a copy of the store; see \"sosie verify\"");
}

/* Header and links of the entry at `at`; *good false: not an entry that fits here. */
static int scan_entry(struct scan *s, uint64_t at, struct chain_entry *e, bool *good, struct sosie_err *err)
{
	const struct sosie_chain *c = s->c;
	const uint8_t *p;
	*good = false;
	if (s->size - at < CHAIN_HEADER + CHAIN_TAIL)
		return 0;
	int rc = look(s, at, CHAIN_HEADER, &p, err);
	if (rc || !chain_get_header(c->format, p, e) ||
	    e->body_len > s->size - at - CHAIN_HEADER - CHAIN_TAIL)
		return rc;
	e->offset = at;
	e->file = s->number;
	rc = look(s, at + CHAIN_HEADER + e->body_len, CHAIN_TAIL, &p, err);
	if (rc)
		return rc;
	memcpy(e->digest.b, p, CHAIN_TAIL);
	*good = c->adrift ||
	        (sosie_digest_equal(&e->previous, &c->end) && e->point == chain_next_number(c, e->kind));
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

/* What the entry, which fits here, is beyond that. The body is looked at where somebody wants it, and of the
 * newest file's last entry, which a crash may have torn inside it. */
static int look_inside(struct scan *s, const struct chain_entry *e, bool last, bool *whole,
                       struct sosie_err *err)
{
	uint8_t *body = NULL;
	*whole = true;
	if (!s->each && !last)
		return 0;
	int rc = body_whole(s, e, &body, whole, err);
	if (!rc && *whole && s->each)
		rc = s->each(s->arg, e, body);
	free(body);
	return rc;
}

static int scan_entries(struct scan *s, bool newest, bool repair, struct sosie_err *err)
{
	uint64_t at = s->c->newest_size;
	while (at < s->size) {
		struct chain_entry e;
		bool good = false, whole = false;
		int rc = scan_entry(s, at, &e, &good, err);
		const uint64_t end = good ? at + CHAIN_HEADER + e.body_len + CHAIN_TAIL : at;
		if (!rc && good)
			rc = look_inside(s, &e, newest && end == s->size, &whole, err);
		if (rc)
			return rc;
		if (!good || !whole)
			return bad_entry(s, at, newest, repair, err);
		rc = chain_take(s->c, &e, err);
		if (rc)
			return rc;
		at = s->c->newest_size = end;
	}
	return 0;
}

static int not_as_left(const struct scan *s, const char *path, struct sosie_err *err)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "the %s was changed since it was read: %s",
	                     s->c->format->name, path);
}

/* Marks a file that is new to the chain; one that was read before must be that very one. */
static int scan_mark(struct scan *s, const struct sosie_stat *st, struct sosie_err *err)
{
	struct sosie_chain *c = s->c;
	if (s->number > c->mark_count) {
		chain_mark(c, s->number, st);
		c->newest_size = 0;
		return 0;
	}
	const struct chain_mark *mark = &c->marks[s->number - 1];
	if (mark->dev != st->dev || mark->ino != st->ino || st->size < s->from)
		return not_as_left(s, s->path, err);
	c->newest_size = s->from;
	return 0;
}

static int scan_open(struct scan *s, uint32_t number, bool newest, bool repair, struct sosie_err *err)
{
	struct sosie_chain *c = s->c;
	struct sosie_stat st;
	s->number = number;
	s->window_at = s->window_len = 0;
	int rc = chain_file_path(c, number, s->path, err);
	if (!rc)
		rc = sosie_io_openat(c->io, s->path, SOSIE_READ, 0, &s->file, err);
	if (!rc)
		rc = sosie_io_fstat(c->io, s->file, &st, err);
	if (!rc)
		rc = scan_mark(s, &st, err);
	if (!rc) {
		c->newest_file = number;
		s->size = st.size;
		rc = scan_entries(s, newest, repair, err);
	}
	sosie_io_close(c->io, s->file, NULL);
	s->file = NULL;
	return rc;
}

/* Files first to last; the newest file of all is `newest`. */
static int scan_files(const struct scan *wanted, uint32_t first, uint32_t last, uint32_t newest, bool repair,
                      struct sosie_err *err)
{
	struct scan *s = malloc(sizeof(*s));
	uint8_t *window = malloc(STORE_BLOCK);
	int rc = s && window ? 0
	                     : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read the %s in %s",
	                                     wanted->c->format->name, wanted->c->dir);
	if (!rc) {
		*s = *wanted;
		s->window = window;
	}
	for (uint32_t n = first; !rc && n <= last; n++)
		rc = scan_open(s, n, n == newest, repair, err);
	free(window);
	free(s);
	return rc;
}

struct newest {
	const char *suffix;
	uint32_t number;
};

static int newest_number(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct newest *newest = arg;
	uint32_t n = 0;
	if (kind != SOSIE_KIND_FILE || strlen(name) != 7 + strlen(newest->suffix) || name[6] != '.' ||
	    strcmp(name + 7, newest->suffix) != 0)
		return 0;
	for (int i = 0; i < 6; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		n = n * 10 + (uint32_t)(name[i] - '0');
	}
	if (n > newest->number)
		newest->number = n;
	return 0;
}

int chain_newest_file(struct sosie_chain *c, uint32_t *number, struct sosie_err *err)
{
	struct newest newest = {.suffix = c->format->suffix};
	int rc = sosie_io_list(c->io, c->dir, newest_number, &newest, err);
	*number = newest.number;
	return rc < 0 ? rc : 0;
}

int chain_scan(struct sosie_chain *c, bool repair, struct sosie_err *err)
{
	const struct scan s = {.c = c};
	uint32_t files;
	int rc = chain_newest_file(c, &files, err);
	return rc ? rc : scan_files(&s, 1, files, files, repair, err);
}

/* Files that are full: each is the one that was read, and as long. */
static int look_at_full(const struct scan *s, struct sosie_err *err)
{
	const struct sosie_chain *c = s->c;
	char path[STORE_PATH];
	int rc = 0;
	for (uint32_t n = 1; !rc && n < c->mark_count; n++) {
		const struct chain_mark *mark = &c->marks[n - 1];
		struct sosie_stat st;
		rc = chain_file_path(c, n, path, err);
		if (!rc)
			rc = sosie_io_stat(c->io, path, &st, err);
		if (!rc && (st.dev != mark->dev || st.ino != mark->ino || st.size != mark->size))
			rc = not_as_left(s, path, err);
	}
	return rc;
}

/* Does the digest of the last entry stand where it stood? It names all entries before. */
static int look_at_end(const struct scan *s, struct sosie_err *err)
{
	const struct sosie_chain *c = s->c;
	char path[STORE_PATH];
	uint8_t tail[CHAIN_TAIL];
	struct sosie_file *f = NULL;
	size_t got = 0;
	if (c->count == 0)
		return 0;
	const struct chain_entry *e = &c->entries[c->count - 1];
	int rc = chain_file_path(c, e->file, path, err);
	if (!rc)
		rc = sosie_io_openat(c->io, path, SOSIE_READ, 0, &f, err);
	if (!rc)
		rc = sosie_io_pread(c->io, f, tail, sizeof(tail), e->offset + CHAIN_HEADER + e->body_len,
		                    &got, err);
	sosie_io_close(c->io, f, NULL);
	if (!rc && (got != sizeof(tail) || memcmp(tail, e->digest.b, sizeof(tail)) != 0))
		rc = not_as_left(s, path, err);
	return rc;
}

int chain_scan_more(struct sosie_chain *c, bool repair, struct sosie_err *err)
{
	const struct scan s = {.c = c, .from = c->newest_size};
	uint32_t files;
	int rc = chain_newest_file(c, &files, err);
	if (!rc && (files < c->newest_file || c->mark_count != c->newest_file))
		rc = not_as_left(&s, c->dir, err);
	if (!rc)
		rc = look_at_full(&s, err);
	if (!rc)
		rc = look_at_end(&s, err);
	return rc ? rc : scan_files(&s, c->newest_file ? c->newest_file : 1, files, files, repair, err);
}

int chain_scan_each(struct sosie_chain *c, chain_each_fn fn, void *arg, struct sosie_err *err)
{
	const struct scan s = {.c = c, .each = fn, .arg = arg};
	uint32_t files;
	int rc = chain_newest_file(c, &files, err);
	return rc ? rc : scan_files(&s, 1, files, files, false, err);
}

int chain_scan_end(struct sosie_chain *c, bool repair, struct sosie_err *err)
{
	const struct scan s = {.c = c};
	uint32_t files;
	uint64_t size = 0;
	int rc = chain_newest_file(c, &files, err);
	for (uint32_t n = files; !rc && n > 0; n--) {
		c->adrift = n > 1;
		rc = scan_files(&s, n, n, files, repair, err);
		if (n == files)
			size = c->newest_size;
		if (c->count > 0)
			break; /* else the file is empty: it was begun when the power went */
	}
	c->adrift = false;
	c->newest_file = files;
	c->newest_size = size;
	return rc;
}
