/* SPDX-License-Identifier: MIT */
/*
 * "same" messages: a source says that a group has not changed. Each key's newest lies in the inbox; one
 * counts when it names the digest that the chain ends with. Its time is when it came here, never what the
 * source says.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

#define SAME_BYTES (64u << 10)
#define SAME_GROUPS 4096u
#define SETTLED_MS 1000

struct same_search {
	struct sosie_group *g;
	char dir[STORE_PATH];
	int64_t after_ms, seen_ms; /* only files newer than after; the newest seen */
	int64_t best_ms;           /* 0: none valid */
	char key[17];
};

/* Does the message name our group with our digest? Hostile bytes: anything odd is "no". */
static bool names_head(struct same_search *s, const char *text, size_t len)
{
	static const char *const keys[] = {"format", "kind", "groups", "cut_time", NULL};
	struct sosie_json *j = NULL, *groups, *one;
	const char *name, *kind;
	struct sosie_digest d;
	size_t count = 0;
	uint64_t format;
	bool found = false;
	char hex[2 * SOSIE_DIGEST_LEN + 1];
	sosie_hex(hex, chain_head(s->g->chain)->b, SOSIE_DIGEST_LEN);
	if (!memmem(text, len, hex, sizeof(hex) - 1))
		return false; /* not worth reading as JSON: every group of the tenant looks at it */
	if (!sosie_json_parse(text, len, SAME_BYTES, &j, NULL) && !sosie_json_only(j, keys, NULL) &&
	    !sosie_json_u64(j, "format", STORE_FORMAT, &format, NULL) &&
	    !sosie_json_str(j, "kind", 8, &kind, NULL) && strcmp(kind, "same") == 0 &&
	    !sosie_json_arr(j, "groups", SAME_GROUPS, &groups, &count, NULL))
		for (size_t i = 0; i < count && !found; i++)
			found = !sosie_json_at(groups, i, &one, NULL) &&
			        !sosie_json_str(one, "group", SOSIE_NAME_MAX, &name, NULL) &&
			        strcmp(name, s->g->name.s) == 0 &&
			        !sosie_json_hex(one, "digest", d.b, sizeof(d.b), NULL) &&
			        sosie_digest_equal(&d, chain_head(s->g->chain));
	sosie_json_free(j);
	return found;
}

static int look_at(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct same_search *s = arg;
	char path[STORE_PATH], *text = NULL;
	struct sosie_stat st;
	uint8_t id[8];
	size_t len;
	(void)kind;
	if (strncmp(name, "same.", 5) != 0 || !sosie_unhex(id, sizeof(id), name + 5) ||
	    store_path(path, NULL, "%s/%s", s->dir, name) ||
	    sosie_io_stat(s->g->store->io, path, &st, NULL) || st.mtime_ms <= s->after_ms)
		return 0;
	if (st.mtime_ms > s->seen_ms)
		s->seen_ms = st.mtime_ms;
	if (st.mtime_ms <= s->best_ms ||
	    sosie_io_read_file(s->g->store->io, path, SAME_BYTES, &text, &len, NULL))
		return 0;
	if (names_head(s, text, len)) {
		s->best_ms = st.mtime_ms;
		memcpy(s->key, name + 5, sizeof(s->key));
	}
	free(text);
	return 0;
}

static int note(struct same_search *s, struct sosie_err *err)
{
	char path[STORE_PATH], *text = NULL;
	size_t len;
	int64_t now = sosie_wall_ms(s->g->store->clock);
	int rc = store_path(path, err, "%s/state/same.json", s->g->dir);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	layout_set_time(j, "time", s->best_ms < now ? s->best_ms : now);
	sosie_json_set_hex(j, "digest", chain_head(s->g->chain)->b, SOSIE_DIGEST_LEN);
	sosie_json_set_str(j, "key", s->key);
	rc = sosie_json_text(j, 0, &text, &len, err);
	sosie_json_free(j);
	if (!rc)
		rc = layout_put(s->g->store->io, path, text, len, 0640, err);
	free(text);
	return rc;
}

struct same_waiting {
	struct sosie_store *store;
	const char *dir;
	int64_t after_ms;
	bool any;
};

static int is_newer(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct same_waiting *w = arg;
	char path[STORE_PATH];
	struct sosie_stat st;
	(void)kind;
	if (strncmp(name, "same.", 5) != 0 || store_path(path, NULL, "%s/%s", w->dir, name) ||
	    sosie_io_stat(w->store->io, path, &st, NULL) || st.mtime_ms <= w->after_ms)
		return 0;
	w->any = true;
	return 1;
}

bool same_waits(struct sosie_store *store, const char *tenant, struct store_memo *memo)
{
	char dir[STORE_PATH];
	struct sosie_stat st = {0};
	struct same_waiting w = {.store = store, .dir = dir, .after_ms = memo->same_seen_ms};
	if (store_path(dir, NULL, "%s/%s/_inbox", store->path, tenant) ||
	    sosie_io_stat(store->io, dir, &st, NULL))
		return true;
	if (memo->same_inbox_ms && st.mtime_ms == memo->same_inbox_ms)
		return false;
	if (sosie_io_list(store->io, dir, is_newer, &w, NULL) < 0 || w.any)
		return true;
	/* A change in the same tick of the file system's clock would not show. */
	memo->same_inbox_ms = sosie_wall_ms(store->clock) - st.mtime_ms > SETTLED_MS ? st.mtime_ms : 0;
	return false;
}

int same_take(struct sosie_group *g, struct sosie_err *err)
{
	struct same_search s = {.g = g};
	struct store_memo *memo;
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (!rc)
		rc = store_path(s.dir, err, "%s/%s/_inbox", g->store->path, g->tenant.s);
	if (rc)
		return rc;
	s.after_ms = s.seen_ms = memo->same_seen_ms;
	rc = sosie_io_list(g->store->io, s.dir, look_at, &s, err);
	rc = rc < 0 ? rc : s.best_ms ? note(&s, err) : 0;
	if (!rc)
		memo->same_seen_ms = s.seen_ms;
	return rc;
}
