/* SPDX-License-Identifier: MIT */
/*
 * The chain: every manifest and acceptance of a group, append-only (docs/format.md, "Chain"). An entry is
 * durable when chain_append returns; the fsync in it is the moment at which a point is accepted.
 *
 * After a failed write or fsync the file is lost (what the cache shows may not be on the disk): its whole
 * entries are written into a new file that takes its place. When that fails too the chain refuses to append
 * until it is opened anew.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"

const struct chain_format chain_of_group = {.magic = "SCHN",
                                            .suffix = "chain",
                                            .name = "chain",
                                            .kinds = CHAIN_KEY,
                                            .body_max = CHAIN_BODY_MAX,
                                            .kept = true};

int chain_file_path(const struct sosie_chain *c, uint32_t file, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/%06u.%s", c->dir, (unsigned)file, c->format->suffix);
}

void chain_entry_digest(struct sosie_hash *h, const struct chain_entry *e, const void *body,
                        struct sosie_digest *out)
{
	uint8_t kind[2] = {(uint8_t)e->kind, (uint8_t)((unsigned)e->kind >> 8)};
	sosie_hash_start(h, "sosie entry v1");
	sosie_hash_add(h, e->previous.b, sizeof(e->previous.b));
	sosie_hash_add(h, kind, sizeof(kind));
	sosie_hash_add_u64(h, e->point);
	sosie_hash_add_u64(h, (uint64_t)e->time_ms);
	sosie_hash_add(h, body, e->body_len);
	sosie_hash_end(h, out);
}

void chain_put_header(const struct chain_format *format, uint8_t dst[CHAIN_HEADER],
                      const struct chain_entry *e)
{
	struct sosie_writer w;
	sosie_writer_init(&w, dst, CHAIN_HEADER);
	sosie_put_bytes(&w, format->magic, 4);
	sosie_put_u16(&w, (uint16_t)e->kind);
	sosie_put_u16(&w, 0);
	sosie_put_u32(&w, e->body_len);
	sosie_put_u32(&w, 0);
	sosie_put_u64(&w, e->point);
	sosie_put_u64(&w, (uint64_t)e->time_ms);
	sosie_put_bytes(&w, e->previous.b, sizeof(e->previous.b));
}

bool chain_get_header(const struct chain_format *format, const uint8_t src[CHAIN_HEADER],
                      struct chain_entry *e)
{
	struct sosie_reader r;
	uint8_t magic[4];
	memset(e, 0, sizeof(*e));
	sosie_reader_init(&r, src, CHAIN_HEADER);
	sosie_get_bytes(&r, magic, sizeof(magic));
	uint16_t kind = sosie_get_u16(&r), zero = sosie_get_u16(&r);
	e->body_len = sosie_get_u32(&r);
	uint32_t zero2 = sosie_get_u32(&r);
	e->point = sosie_get_u64(&r);
	e->time_ms = (int64_t)sosie_get_u64(&r);
	sosie_get_bytes(&r, e->previous.b, sizeof(e->previous.b));
	e->kind = kind;
	return memcmp(magic, format->magic, 4) == 0 && kind >= 1 && kind <= format->kinds && zero == 0 &&
	       zero2 == 0 && e->body_len <= format->body_max && e->time_ms >= 0;
}

uint64_t chain_next_number(const struct sosie_chain *c, unsigned kind)
{
	return c->newest_point + (c->format->counted || kind == CHAIN_POINT ? 1 : 0);
}

static int keep(struct sosie_chain *c, const struct chain_entry *e, struct sosie_err *err)
{
	if (c->count == c->room) {
		uint64_t room = c->room ? 2 * c->room : 64;
		struct chain_entry *grown = reallocarray(c->entries, room, sizeof(*grown));
		if (!grown)
			return sosie_err_set(err, SOSIE_ENOMEM, "no memory for %llu chain entries",
			                     (unsigned long long)room);
		c->entries = grown;
		c->room = room;
	}
	c->entries[c->count] = *e;
	return 0;
}

int chain_take(struct sosie_chain *c, const struct chain_entry *e, struct sosie_err *err)
{
	int rc = c->format->kept ? keep(c, e, err) : 0;
	if (rc)
		return rc;
	c->count++;
	c->end = e->digest;
	c->adrift = false;
	if (c->format->counted || e->kind == CHAIN_POINT)
		c->newest_point = e->point;
	if (e->kind != CHAIN_KEY)
		c->head = e->digest;
	return 0;
}

void chain_mark(struct sosie_chain *c, uint32_t file, const struct sosie_stat *st)
{
	if (!c->format->kept || file != c->mark_count + 1)
		return;
	if (c->mark_count == c->mark_room) {
		uint32_t room = c->mark_room ? 2 * c->mark_room : 4;
		struct chain_mark *grown = reallocarray(c->marks, room, sizeof(*grown));
		if (!grown)
			return;
		c->marks = grown;
		c->mark_room = room;
	}
	if (c->mark_count > 0)
		c->marks[c->mark_count - 1].size = c->newest_size;
	c->marks[c->mark_count++] = (struct chain_mark){.dev = st->dev, .ino = st->ino};
}

static int read_epoch(struct sosie_chain *c, const struct chain_entry *e, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "kind", "tenant", "group",    "epoch", "point",
	                                   "time",   "by",   "reason", "previous", NULL};
	void *body = NULL;
	struct sosie_json *j = NULL;
	uint64_t epoch = 0;
	int rc = chain_body(c, e, &body, err);
	if (!rc)
		rc = sosie_json_parse(body, sosie_signed_text(body, e->body_len), CHAIN_BODY_MAX, &j, err);
	if (!rc)
		rc = sosie_json_only(j, keys, err);
	if (!rc)
		rc = sosie_json_u64(j, "epoch", INT64_MAX, &epoch, err);
	if (!rc && epoch <= c->epoch)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "epoch %llu follows %llu in the chain",
		                   (unsigned long long)epoch, (unsigned long long)c->epoch);
	if (!rc)
		c->epoch = epoch;
	sosie_json_free(j);
	free(body);
	return rc;
}

int chain_new(struct sosie_io *io, struct sosie_clock *clock, const char *dir,
              const struct sosie_digest *genesis, const struct chain_format *format, struct sosie_chain **out,
              struct sosie_err *err)
{
	*out = NULL;
	struct sosie_chain *c = calloc(1, sizeof(*c));
	if (!c || !(c->hash = sosie_hash_new())) {
		free(c);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to open the %s in %s", format->name, dir);
	}
	c->io = io;
	c->clock = clock;
	c->format = format;
	c->genesis = c->head = c->end = *genesis;
	c->epoch = 1;
	int rc = store_path(c->dir, err, "%s", dir);
	if (rc) {
		chain_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

/* Of the entries from this one on. */
static int read_epochs(struct sosie_chain *c, uint64_t from, struct sosie_err *err)
{
	int rc = 0;
	for (uint64_t i = from; !rc && i < c->count; i++)
		if (c->entries[i].kind == CHAIN_EPOCH)
			rc = read_epoch(c, &c->entries[i], err);
	return rc;
}

int chain_open(struct sosie_io *io, struct sosie_clock *clock, const char *dir,
               const struct sosie_digest *genesis, bool repair, struct sosie_chain **out,
               struct sosie_err *err)
{
	struct sosie_chain *c;
	*out = NULL;
	int rc = chain_new(io, clock, dir, genesis, &chain_of_group, &c, err);
	if (rc)
		return rc;
	rc = chain_scan(c, repair, err);
	if (!rc)
		rc = read_epochs(c, 0, err);
	if (rc) {
		chain_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

int chain_read_on(struct sosie_chain *chain, bool repair, struct sosie_err *err)
{
	const uint64_t known = chain->count;
	if (chain->broken)
		return sosie_err_set(err, SOSIE_ECORRUPT, "the %s in %s must be opened anew",
		                     chain->format->name, chain->dir);
	int rc = chain_scan_more(chain, repair, err);
	if (!rc)
		rc = read_epochs(chain, known, err);
	chain->carried = true;
	chain->broken = rc != 0;
	return rc;
}

bool chain_carried(const struct sosie_chain *chain)
{
	return chain->carried;
}

void chain_close(struct sosie_chain *chain)
{
	if (!chain)
		return;
	sosie_hash_free(chain->hash);
	free(chain->entries);
	free(chain->marks);
	free(chain);
}

uint64_t chain_entries(const struct sosie_chain *chain)
{
	return chain->count;
}

const struct chain_entry *chain_entry(const struct sosie_chain *chain, uint64_t i)
{
	return i < chain->count ? &chain->entries[i] : NULL;
}

const struct chain_entry *chain_find_point(const struct sosie_chain *chain, uint64_t point)
{
	uint64_t low = 0, high = chain->count;
	if (point == 0)
		return NULL;
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		if (chain->entries[mid].point < point)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == chain->count || chain->entries[low].point != point ||
	    chain->entries[low].kind != CHAIN_POINT)
		return NULL;
	return &chain->entries[low];
}

int chain_body(struct sosie_chain *chain, const struct chain_entry *e, void **out, struct sosie_err *err)
{
	char path[STORE_PATH];
	struct sosie_file *f = NULL;
	struct sosie_digest d;
	size_t got = 0;
	uint8_t *body = malloc((size_t)e->body_len + 1);
	*out = NULL;
	int rc = body ? 0
	              : sosie_err_set(err, SOSIE_ENOMEM, "no memory for a chain entry of %u bytes",
	                              e->body_len);
	if (!rc)
		rc = chain_file_path(chain, e->file, path, err);
	if (!rc)
		rc = sosie_io_openat(chain->io, path, SOSIE_READ, 0, &f, err);
	if (!rc)
		rc = sosie_io_pread(chain->io, f, body, e->body_len, e->offset + CHAIN_HEADER, &got, err);
	sosie_io_close(chain->io, f, NULL);
	if (!rc) {
		memset(body + got, 0, e->body_len + 1 - got);
		chain_entry_digest(chain->hash, e, body, &d);
		if (!sosie_digest_equal(&d, &e->digest)) {
			sosie_err_set(err, SOSIE_ECORRUPT,
			              "the chain is damaged: the entry at offset %llu of %s does not have "
			              "its digest",
			              (unsigned long long)e->offset, path);
			sosie_err_where(err, "%s", path);
			rc = sosie_err_action(
			        err, "restore this file from a copy of the store; see \"sosie verify\"");
		}
	}
	if (rc) {
		free(body);
		return rc;
	}
	*out = body;
	return 0;
}

/* What is whole of the newest file, in a new file under its name; with nothing whole, no file. */
static int replace_newest(struct sosie_chain *c, struct sosie_err *err)
{
	char path[STORE_PATH], tmp[STORE_PATH];
	struct sosie_file *from = NULL, *to = NULL;
	uint8_t *block = malloc(STORE_BLOCK);
	size_t got = 0;
	int rc = block ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to repair the chain");
	if (!rc)
		rc = chain_file_path(c, c->newest_file, path, err);
	if (!rc)
		rc = store_path(tmp, err, "%s.tmp", path);
	if (!rc)
		rc = sosie_io_openat(c->io, path, SOSIE_READ, 0, &from, err);
	if (!rc)
		rc = sosie_io_openat(c->io, tmp, SOSIE_WRITE | SOSIE_CREATE | SOSIE_TRUNC, 0640, &to, err);
	for (uint64_t at = 0; !rc && at < c->newest_size; at += got) {
		uint64_t left = c->newest_size - at;
		size_t len = left < STORE_BLOCK ? (size_t)left : STORE_BLOCK;
		rc = sosie_io_pread(c->io, from, block, len, at, &got, err);
		if (!rc && got < len)
			rc = sosie_err_set(err, SOSIE_EIO, "%s became shorter", path);
		if (!rc)
			rc = sosie_io_pwrite(c->io, to, block, len, at, err);
	}
	if (!rc)
		rc = sosie_io_fsync(c->io, to, err);
	sosie_io_close(c->io, from, NULL);
	sosie_io_close(c->io, to, NULL);
	free(block);
	if (!rc)
		rc = sosie_io_rename(c->io, tmp, path, err);
	return rc ? rc : sosie_io_sync_dir(c->io, c->dir, err);
}

/* The last resort: readers of this boot do not see the entry of which we said that it was not made. */
static void cut_newest(struct sosie_chain *c)
{
	char path[STORE_PATH];
	struct sosie_file *f = NULL;
	if (chain_file_path(c, c->newest_file, path, NULL) ||
	    sosie_io_openat(c->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, NULL))
		return;
	if (!sosie_io_truncate(c->io, f, c->newest_size, NULL))
		sosie_io_fsync(c->io, f, NULL);
	sosie_io_close(c->io, f, NULL);
}

/* Begins a file when there is none or the newest is full. Empty files do no harm. */
static int writable_file(struct sosie_chain *c, struct sosie_file **out, bool *fresh, struct sosie_err *err)
{
	char path[STORE_PATH];
	uint32_t number = c->newest_file;
	*fresh = number == 0 || c->newest_size >= CHAIN_ROTATE;
	if (*fresh && number >= 999999)
		return sosie_err_set(err, SOSIE_EINTERNAL, "the %s in %s has no number left", c->format->name,
		                     c->dir);
	number += *fresh ? 1 : 0;
	int rc = chain_file_path(c, number, path, err);
	if (!rc)
		rc = sosie_io_openat(c->io, path,
		                     SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | (*fresh ? SOSIE_EXCL : 0),
		                     0640, out, err);
	if (!rc && *fresh) {
		struct sosie_stat st;
		if (!sosie_io_fstat(c->io, *out, &st, NULL))
			chain_mark(c, number, &st);
		c->newest_file = number;
		c->newest_size = 0;
	}
	return rc;
}

static int write_entry(struct sosie_chain *c, const struct chain_entry *e, const void *body,
                       struct sosie_err *err)
{
	struct sosie_file *f = NULL;
	size_t len = CHAIN_HEADER + (size_t)e->body_len + CHAIN_TAIL;
	bool fresh = false;
	uint8_t *bytes = malloc(len);
	if (!bytes)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a chain entry of %zu bytes", len);
	chain_put_header(c->format, bytes, e);
	memcpy(bytes + CHAIN_HEADER, body, e->body_len);
	memcpy(bytes + CHAIN_HEADER + e->body_len, e->digest.b, CHAIN_TAIL);
	int rc = writable_file(c, &f, &fresh, err);
	if (!rc)
		rc = sosie_io_pwrite(c->io, f, bytes, len, c->newest_size, err);
	if (!rc)
		rc = sosie_io_fsync(c->io, f, err);
	if (!rc && fresh)
		rc = sosie_io_sync_dir(c->io, c->dir, err);
	int closed = sosie_io_close(c->io, f, rc ? NULL : err);
	free(bytes);
	return rc ? rc : closed;
}

int chain_append(struct sosie_chain *chain, unsigned kind, uint64_t point, int64_t time_ms, const void *body,
                 uint32_t len, struct sosie_digest *digest, struct sosie_err *err)
{
	struct chain_entry e = {
	        .kind = kind, .point = point, .time_ms = time_ms < 0 ? 0 : time_ms, .body_len = len};
	if (chain->broken)
		return sosie_err_set(err, SOSIE_EIO,
		                     "the %s in %s could not be written before; it must be opened anew",
		                     chain->format->name, chain->dir);
	if (len > chain->format->body_max || point != chain_next_number(chain, kind))
		return sosie_err_set(err, SOSIE_EINTERNAL,
		                     "%s entry of %u bytes, number %llu, does not follow number %llu",
		                     chain->format->name, len, (unsigned long long)point,
		                     (unsigned long long)chain->newest_point);
	e.previous = chain->end;
	chain_entry_digest(chain->hash, &e, body, &e.digest);
	int rc = write_entry(chain, &e, body, err);
	if (rc) {
		chain->broken = chain->newest_file != 0 && replace_newest(chain, NULL) != 0;
		if (chain->broken)
			cut_newest(chain);
		return rc;
	}
	e.file = chain->newest_file;
	e.offset = chain->newest_size;
	chain->newest_size += CHAIN_HEADER + (uint64_t)len + CHAIN_TAIL;
	rc = chain_take(chain, &e, err);
	if (rc)
		chain->broken = true;
	else if (digest)
		*digest = e.digest;
	return rc;
}

bool chain_in_doubt(const struct sosie_chain *chain)
{
	return chain->broken;
}

uint64_t chain_newest_point(const struct sosie_chain *chain)
{
	return chain->newest_point;
}

uint64_t chain_epoch(const struct sosie_chain *chain)
{
	return chain->epoch;
}

const struct sosie_digest *chain_head(const struct sosie_chain *chain)
{
	return &chain->head;
}

int chain_point_body(const void *body, uint32_t len, const void **manifest, uint32_t *manifest_len,
                     const void **acceptance, uint32_t *acceptance_len, struct sosie_err *err)
{
	struct sosie_reader r;
	sosie_reader_init(&r, body, len);
	*manifest_len = sosie_get_u32(&r);
	if (*manifest_len <= SOSIE_MANIFEST_MAX)
		*manifest = sosie_get_view(&r, *manifest_len);
	if (r.failed || *manifest_len > SOSIE_MANIFEST_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT, "a point's chain entry has no whole manifest");
	*acceptance = r.at;
	*acceptance_len = (uint32_t)r.left;
	return 0;
}

const struct sosie_digest *chain_last(const struct sosie_chain *chain)
{
	return chain->count ? &chain->entries[chain->count - 1].digest : &chain->genesis;
}
