/* SPDX-License-Identifier: MIT */
/*
 * Uploads in the inbox. The folder is a receiver's, who may be hostile: names are matched byte by byte, files
 * are opened without following links and must be regular with one link, lengths are ours to check.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

#define UPLOADS_MAX 4096u

int upload_inbox(const struct sosie_group *g, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/%s/_inbox/%s", g->store->path, g->tenant.s, g->name.s);
}

static bool parse_id(const char *name, struct sosie_upload_id *id, const char **rest)
{
	char hex[UPLOAD_HEX + 1];
	if (strnlen(name, UPLOAD_HEX) < UPLOAD_HEX || name[UPLOAD_HEX] != '.')
		return false;
	memcpy(hex, name, UPLOAD_HEX);
	hex[UPLOAD_HEX] = '\0';
	*rest = name + UPLOAD_HEX + 1;
	return sosie_unhex(id->b, sizeof(id->b), hex);
}

struct listing {
	struct sosie_group *g;
	char dir[STORE_PATH];
	struct upload *list;
	unsigned count, room;
	bool no_memory;
};

static int add_upload(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct listing *l = arg;
	struct upload u = {.manifest = NULL};
	const char *rest;
	char path[STORE_PATH];
	struct sosie_stat st;
	(void)kind;
	if (!parse_id(name, &u.id, &rest) || strcmp(rest, "manifest") != 0 || l->count == UPLOADS_MAX)
		return 0;
	if (store_path(path, NULL, "%s/%s", l->dir, name) ||
	    sosie_io_stat(l->g->store->io, path, &st, NULL) || st.kind != SOSIE_KIND_FILE || st.links != 1)
		return 0; /* no receiver of ours makes such a name */
	if (l->count == l->room) {
		unsigned room = l->room ? 2 * l->room : 8;
		struct upload *grown = reallocarray(l->list, room, sizeof(*grown));
		l->no_memory = !grown;
		if (!grown)
			return 1;
		l->list = grown;
		l->room = room;
	}
	u.mtime_ms = st.mtime_ms;
	l->list[l->count++] = u;
	return 0;
}

static int compare_uploads(const void *a, const void *b)
{
	const struct upload *x = a, *y = b;
	if (x->mtime_ms != y->mtime_ms)
		return x->mtime_ms < y->mtime_ms ? -1 : 1;
	return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

int upload_list(struct sosie_group *g, struct upload **out, unsigned *count, struct sosie_err *err)
{
	struct listing l = {.g = g};
	*out = NULL;
	*count = 0;
	int rc = upload_inbox(g, l.dir, err);
	if (rc || !sosie_io_exists(g->store->io, l.dir))
		return rc;
	rc = sosie_io_list(g->store->io, l.dir, add_upload, &l, err);
	if (rc < 0 || l.no_memory) {
		free(l.list);
		return rc < 0 ? rc : sosie_err_set(err, SOSIE_ENOMEM, "no memory to list %s", l.dir);
	}
	if (l.count)
		qsort(l.list, l.count, sizeof(*l.list), compare_uploads);
	*out = l.list;
	*count = l.count;
	return 0;
}

static int upload_path(struct sosie_group *g, const struct upload *u, const char *suffix,
                       char dst[STORE_PATH], struct sosie_err *err)
{
	char dir[STORE_PATH], id[UPLOAD_HEX + 1];
	sosie_hex(id, u->id.b, sizeof(u->id.b));
	int rc = upload_inbox(g, dir, err);
	return rc ? rc : store_path(dst, err, "%s/%s.%s", dir, id, suffix);
}

bool upload_committed(struct sosie_group *g, const struct sosie_upload_id *id)
{
	const struct upload u = {.id = *id};
	char path[STORE_PATH];
	return !upload_path(g, &u, "manifest", path, NULL) && sosie_io_exists(g->store->io, path);
}

/* The key that authorized_keys named to the receiver: kept for the audit, trusted for nothing. */
static void read_key(struct sosie_group *g, struct upload *u)
{
	char path[STORE_PATH], *text = NULL;
	uint8_t id[8];
	size_t len = 0;
	u->key[0] = '\0';
	if (upload_path(g, u, "key", path, NULL) ||
	    sosie_io_read_file(g->store->io, path, 64, &text, &len, NULL))
		return;
	if (len > 16 && text[16] == '\n')
		text[16] = '\0';
	if (sosie_unhex(id, sizeof(id), text))
		memcpy(u->key, text, sizeof(u->key));
	free(text);
}

int upload_read(struct sosie_group *g, struct upload *u, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = upload_path(g, u, "manifest", path, err);
	if (!rc)
		rc = sosie_io_read_file(g->store->io, path, SOSIE_MANIFEST_MAX, &u->manifest,
		                        &u->manifest_len, err);
	if (!rc)
		read_key(g, u);
	return rc;
}

int upload_open_part(struct sosie_group *g, const struct upload *u, unsigned part, uint64_t length,
                     struct sosie_file **out, struct sosie_err *err)
{
	char suffix[16], path[STORE_PATH];
	struct sosie_stat st;
	snprintf(suffix, sizeof(suffix), "%u", part);
	*out = NULL;
	int rc = upload_path(g, u, suffix, path, err);
	if (!rc)
		rc = sosie_io_openat(g->store->io, path, SOSIE_READ, 0, out, err);
	if (rc == -SOSIE_ENOTFOUND || rc == -SOSIE_ECONFIG)
		rc = sosie_err_set(err, SOSIE_EPROTO, "part %u of the upload is missing or no regular file",
		                   part);
	if (!rc)
		rc = sosie_io_fstat(g->store->io, *out, &st, err);
	if (!rc && (st.kind != SOSIE_KIND_FILE || st.links != 1))
		rc = sosie_err_set(err, SOSIE_EPROTO,
		                   "part %u of the upload is no regular file with one name", part);
	if (!rc && st.size < length)
		rc = sosie_err_set(err, SOSIE_EPROTO,
		                   "part %u of the upload has %llu bytes, its manifest says %llu", part,
		                   (unsigned long long)st.size, (unsigned long long)length);
	if (rc) {
		sosie_io_close(g->store->io, *out, NULL);
		*out = NULL;
	}
	return rc;
}

struct removal {
	struct sosie_group *g;
	const struct upload *u;
	char dir[STORE_PATH];
	bool any;
	int rc;
	struct sosie_err *err;
};

static int remove_part(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct removal *r = arg;
	struct sosie_upload_id id;
	const char *rest;
	char path[STORE_PATH];
	if (!parse_id(name, &id, &rest) || memcmp(id.b, r->u->id.b, sizeof(id.b)) != 0 ||
	    strcmp(rest, "manifest") == 0)
		return 0;
	r->rc = store_path(path, r->err, "%s/%s", r->dir, name);
	/* No receiver of ours makes a folder. One that is not empty stays: what is below may move as we look.
	 */
	if (!r->rc && kind == SOSIE_KIND_DIR) {
		sosie_io_rmdir(r->g->store->io, path, NULL);
		return 0;
	}
	r->any = true;
	if (!r->rc)
		r->rc = layout_remove(r->g->store->io, path, r->err);
	return r->rc != 0;
}

/* The manifest goes last: until then the upload is committed, and looked at again. */
int upload_remove(struct sosie_group *g, const struct upload *u, struct sosie_err *err)
{
	struct removal r = {.g = g, .u = u, .err = err};
	char path[STORE_PATH];
	int rc = upload_inbox(g, r.dir, err);
	do {
		r.any = false;
		if (!rc)
			rc = sosie_io_list(g->store->io, r.dir, remove_part, &r, err);
		rc = r.rc ? r.rc : rc < 0 ? rc : 0;
	} while (!rc && r.any);
	if (!rc)
		rc = upload_path(g, u, "manifest", path, err);
	return rc ? rc : layout_remove(g->store->io, path, err);
}
