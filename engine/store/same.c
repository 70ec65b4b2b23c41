/* SPDX-License-Identifier: MIT */
/*
 * "same" messages (docs/protocol.md): a source says of groups that they have not changed. Each key's newest
 * lies in the tenant's inbox; it counts for a group when it names the digest that the chain ends with. Its
 * time is on this standby's clock: when the source saw it, but never later than the message came here.
 *
 * A message names up to thousands of groups and comes each second, so it is parsed once for all groups of the
 * tenant (same_table, one for each tenant and process), and a group whose chain is as it was when it was
 * opened last is not opened again for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"
#include "engine/store/confined.h"
#include "engine/store/keys.h"
#include "engine/store/status.h"

#define SAME_KEYS 1024u /* messages of so many keys are looked at */
#define AHEAD_MS 60000  /* of this clock, when that was set back a little since */
#define SETTLED_MS 1000 /* a change in the same tick of the file system's clock does not show */
#define LOOK_MS 100     /* from one look for new keys, and at their messages, to the next */
/* With many groups each one's time is noted less often; status looks into the messages itself. */
#define NOTE_MANY 100u
#define NOTE_MANY_MS 5000

struct same_entry {
	struct sosie_name group;
	struct sosie_digest digest;
	int64_t time_ms;
};

/* One key's message. */
struct same_message {
	struct same_message *next;
	char key[17];
	uint64_t ino, size;
	int64_t mtime_ms, ctime_ns;
	bool is_signed; /* well, by signer, whoever that is */
	struct sosie_public signer;
	struct same_entry *entries; /* ascending by group */
	size_t count;
};

struct same_table {
	struct same_table *next;
	struct sosie_name tenant;
	char dir[STORE_PATH]; /* the tenant's inbox */
	int64_t dir_ms;    /* its time of change when it was listed, 0: that may not show the next change */
	int64_t listed_ms; /* monotonic */
	int64_t read_ms;   /* the same: messages were looked at */
	int64_t seen_ms;   /* the folder's time of change at the last look */
	int64_t read_of;   /* seen_ms as it was when they were */
	bool listed, read;
	struct same_message *messages;
	unsigned count;
	/* The tenant's log, whose keys were read when a message was; NULL: they could not be had, nothing
	 * counts. */
	const struct audit_log *log;
};

/* --- parsing: in a child of the tenant's; anything odd is "no"
 * ------------------------------------------------------------- */

/* What the standby's clock said when the message was made; the arrival where the message does not tell. 0: it
 * says a time that has not come yet. A source signs the time that it was told, and who told it was a
 * receiver: one that tells next year must not have a word to show until then. */
static int64_t message_time(const struct same_said *said, int64_t arrival, int64_t now)
{
	if (said->has_clock && said->at_ms + said->plus_ms > now + AHEAD_MS)
		return 0;
	if (!said->has_clock || said->at_ms + said->plus_ms >= arrival)
		return arrival;
	return said->at_ms + said->plus_ms;
}

static int by_group(const void *a, const void *b)
{
	const struct same_entry *x = a, *y = b;
	return strcmp(x->group.s, y->group.s);
}

static void take_groups(struct same_message *m, const struct same_said *said, int64_t clock_ms)
{
	const int64_t now = message_time(said, m->mtime_ms, clock_ms);
	m->entries = calloc(said->count + 1u, sizeof(*m->entries));
	for (unsigned i = 0; m->entries && i < said->count; i++) {
		const struct same_group *from = &said->groups[i];
		const int64_t time_ms = now - (int64_t)from->ago_ms;
		if (time_ms > 0)
			m->entries[m->count++] = (struct same_entry){from->group, from->digest, time_ms};
	}
	if (m->count > 1)
		qsort(m->entries, m->count, sizeof(*m->entries), by_group);
}

static int parse(struct sosie_store *store, const struct same_table *t, struct same_message *m,
                 const char *text, size_t len)
{
	struct confined_home *home;
	struct confined *child;
	struct same_said said;
	int rc = store_home(store, &home, NULL);
	if (!rc)
		rc = confined_get(home, t->tenant.s, &child, NULL);
	if (rc)
		return rc;
	rc = confined_same(child, text, len, &said, NULL);
	confined_put(home, child, sosie_mono_ms(store->clock));
	if (!rc)
		take_groups(m, &said, sosie_wall_ms(store->clock));
	free(said.groups);
	return rc;
}

/* --- who may say it
 * ------------------------------------------------------------------------------------------------ */

static void read_signature(struct same_message *m, const char *text, size_t len)
{
	unsigned which;
	m->is_signed = sosie_signed_by(text, len, &m->signer) &&
	               sosie_signed_check(text, len, SOSIE_SIGN_SAME, &m->signer, 1, &which, NULL) == 0;
}

static void read_keys(struct sosie_store *store, struct same_table *t)
{
	struct audit_log *log;
	struct key_fold *fold;
	t->log = NULL;
	if (!audit_log_get(store, t->tenant.s, &log, NULL) && !keys_fold(store, log, &fold, NULL))
		t->log = log;
}

/* By the rule for manifests (keys_signing): a group that has, or had, a signing key takes the word of a
 * living one only. */
static bool may_say(const struct same_table *t, const struct same_message *m, const char *group)
{
	const struct key_fold *fold = t->log ? t->log->keys : NULL;
	struct sosie_signing_key k;
	bool needed = false;
	for (unsigned i = 0; fold && i < fold->count; i++) {
		if (!keys_signing(&fold->records[i], group, &k))
			continue;
		needed = true;
		if (k.until == UINT64_MAX && m->is_signed &&
		    memcmp(k.key, m->signer.b, SOSIE_PUBLIC_LEN) == 0)
			return true;
	}
	return fold && !needed;
}

/* --- the table
 * ------------------------------------------------------------------------------------------------ */

static void read_message(struct sosie_store *store, const struct same_table *t, struct same_message *m,
                         bool *fresh)
{
	char path[STORE_PATH], *text = NULL;
	struct sosie_stat st;
	size_t len;
	if (store_path(path, NULL, "%s/same.%s", t->dir, m->key) ||
	    sosie_io_stat(store->io, path, &st, NULL) ||
	    (st.ino == m->ino && st.size == m->size && st.mtime_ms == m->mtime_ms &&
	     st.ctime_ns == m->ctime_ns))
		return;
	if (sosie_io_read_file(store->io, path, SAME_BYTES, &text, &len, NULL))
		return;
	free(m->entries);
	m->entries = NULL;
	m->count = 0;
	m->ino = st.ino;
	m->size = st.size;
	m->mtime_ms = st.mtime_ms;
	m->ctime_ns = st.ctime_ns;
	read_signature(m, text, len);
	if (parse(store, t, m, text, sosie_signed_text(text, len)) == -SOSIE_ENOMEM)
		m->ino = 0; /* ours: it is looked at again */
	free(text);
	*fresh = true;
}

static int note_key(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct same_table *t = arg;
	struct same_message *m = t->messages;
	uint8_t id[8];
	(void)kind;
	if (strncmp(name, "same.", 5) != 0 || !sosie_unhex(id, sizeof(id), name + 5))
		return 0;
	while (m && strcmp(m->key, name + 5) != 0)
		m = m->next;
	if (m || t->count == SAME_KEYS || !(m = calloc(1, sizeof(*m))))
		return 0;
	memcpy(m->key, name + 5, sizeof(m->key));
	m->next = t->messages;
	t->messages = m;
	t->count++;
	return 0;
}

/* New keys. A change in the same tick of the file system's clock would not show. */
static void list_keys(struct sosie_store *store, struct same_table *t)
{
	int64_t now = sosie_mono_ms(store->clock);
	struct sosie_stat st;
	if (sosie_io_stat(store->io, t->dir, &st, NULL))
		return;
	t->seen_ms = st.mtime_ms;
	if ((t->dir_ms && st.mtime_ms == t->dir_ms) ||
	    (t->listed && t->count && now - t->listed_ms < LOOK_MS))
		return;
	if (sosie_io_list(store->io, t->dir, note_key, t, NULL) < 0)
		return;
	t->listed = true;
	t->listed_ms = now;
	t->dir_ms = sosie_wall_ms(store->clock) - st.mtime_ms > SETTLED_MS ? st.mtime_ms : 0;
}

/* Of thousands of groups each asks for the table: the messages are looked at once for all of them. One that
 * comes meanwhile changes the folder's time, or a tick of that clock hides it until LOOK_MS are over. */
static void read_messages(struct sosie_store *store, struct same_table *t, bool now)
{
	int64_t at = sosie_mono_ms(store->clock);
	bool fresh = false;
	if (!now && t->read && t->seen_ms == t->read_of && at - t->read_ms < LOOK_MS)
		return;
	for (struct same_message *m = t->messages; m; m = m->next)
		read_message(store, t, m, &fresh);
	if (fresh)
		read_keys(store, t);
	t->read_ms = at;
	t->read_of = t->seen_ms;
	t->read = true;
}

/* now: also what came since the last look. */
static struct same_table *table_of(struct sosie_store *store, const char *tenant, bool now)
{
	struct same_table *t = store->sames;
	while (t && strcmp(t->tenant.s, tenant) != 0)
		t = t->next;
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t || sosie_name_set(&t->tenant, SOSIE_NAME_TENANT, tenant, NULL) ||
		    store_path(t->dir, NULL, "%s/%s/_inbox", store->path, tenant)) {
			free(t);
			return NULL;
		}
		t->next = store->sames;
		store->sames = t;
	}
	list_keys(store, t);
	read_messages(store, t, now);
	return t;
}

void same_free_all(struct sosie_store *store)
{
	while (store->sames) {
		struct same_table *t = store->sames;
		store->sames = t->next;
		while (t->messages) {
			struct same_message *m = t->messages;
			t->messages = m->next;
			free(m->entries);
			free(m);
		}
		free(t);
	}
}

struct same_found {
	int64_t time_ms; /* 0: none */
	const char *key;
	size_t groups; /* that the message names */
};

/* One message may name a group more than once. */
static void find_in(const struct same_message *m, const char *group, const struct sosie_digest *digest,
                    struct same_found *out)
{
	size_t low = 0, high = m->count;
	while (low < high) {
		size_t i = low + (high - low) / 2;
		if (strcmp(m->entries[i].group.s, group) < 0)
			low = i + 1;
		else
			high = i;
	}
	for (; low < m->count && strcmp(m->entries[low].group.s, group) == 0; low++)
		if (sosie_digest_equal(&m->entries[low].digest, digest) &&
		    m->entries[low].time_ms > out->time_ms)
			*out = (struct same_found){m->entries[low].time_ms, m->key, m->count};
}

static struct same_found find(const struct same_table *t, const char *group,
                              const struct sosie_digest *digest)
{
	struct same_found found = {0};
	for (const struct same_message *m = t->messages; m; m = m->next)
		if (may_say(t, m, group))
			find_in(m, group, digest, &found);
	return found;
}

static bool is_named(const struct same_table *t, const char *group)
{
	struct same_entry want;
	snprintf(want.group.s, sizeof(want.group.s), "%s", group);
	for (const struct same_message *m = t->messages; m; m = m->next)
		if (m->count && bsearch(&want, m->entries, m->count, sizeof(want), by_group))
			return true;
	return false;
}

/* --- a group's note
 * ------------------------------------------------------------------------------------------ */

static int write_note(struct sosie_store *store, const char *dir, const struct sosie_digest *digest,
                      const struct same_found *found, struct sosie_err *err)
{
	char path[STORE_PATH], *text = NULL;
	size_t len;
	int64_t now = sosie_wall_ms(store->clock);
	int rc = store_path(path, err, "%s/state/same.json", dir);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	layout_set_time(j, "time", found->time_ms < now ? found->time_ms : now);
	sosie_json_set_hex(j, "digest", digest->b, SOSIE_DIGEST_LEN);
	sosie_json_set_str(j, "key", found->key);
	rc = sosie_json_text(j, 0, &text, &len, err);
	sosie_json_free(j);
	if (!rc)
		rc = layout_put(store->io, path, text, len, 0640, err);
	free(text);
	return rc;
}

/* The time of the note, when it is of this digest. */
static int64_t read_note(struct sosie_store *store, const char *dir, const struct sosie_digest *digest)
{
	char path[STORE_PATH], *text = NULL;
	struct sosie_json *j = NULL;
	struct sosie_digest d;
	int64_t time = 0;
	size_t len;
	if (!store_path(path, NULL, "%s/state/same.json", dir) &&
	    !sosie_io_read_file(store->io, path, STORE_SMALL_FILE, &text, &len, NULL) &&
	    !sosie_json_parse(text, len, STORE_SMALL_FILE, &j, NULL) &&
	    !sosie_json_hex(j, "digest", d.b, sizeof(d.b), NULL) && sosie_digest_equal(&d, digest) &&
	    layout_json_time(j, "time", &time, NULL))
		time = 0;
	sosie_json_free(j);
	free(text);
	return time;
}

/* Never back: a later message may tell an earlier time. */
static int note(struct sosie_store *store, struct store_memo *memo, const char *dir,
                const struct same_table *t, struct sosie_err *err)
{
	struct same_found found = find(t, memo->group.s, &memo->same_digest);
	int64_t step = found.groups > NOTE_MANY && memo->same_noted_ms ? NOTE_MANY_MS : 0;
	if (!found.time_ms || found.time_ms <= memo->same_noted_ms ||
	    found.time_ms - memo->same_noted_ms < step)
		return 0;
	int rc = write_note(store, dir, &memo->same_digest, &found, err);
	if (!rc)
		memo->same_noted_ms = found.time_ms;
	return rc;
}

/* Is the chain as it was when the group was opened last? */
static bool chain_as_known(struct sosie_store *store, const struct store_memo *memo)
{
	char path[STORE_PATH];
	struct sosie_stat dir, file;
	return memo->same_known &&
	       !store_path(path, NULL, "%s/%s/%s/chain", store->path, memo->tenant.s, memo->group.s) &&
	       !sosie_io_stat(store->io, path, &dir, NULL) && dir.mtime_ms == memo->chain_dir_ms &&
	       !store_path(path, NULL, "%s/%s/%s/chain/%06u.chain", store->path, memo->tenant.s,
	                   memo->group.s, memo->chain_file) &&
	       !sosie_io_stat(store->io, path, &file, NULL) && file.size == memo->chain_size;
}

bool same_waits(struct sosie_store *store, const char *tenant, struct store_memo *memo)
{
	struct same_table *t = table_of(store, tenant, false);
	char dir[STORE_PATH];
	if (!t)
		return true;
	if (!is_named(t, memo->group.s))
		return false;
	if (!chain_as_known(store, memo) ||
	    store_path(dir, NULL, "%s/%s/%s", store->path, tenant, memo->group.s))
		return true;
	return note(store, memo, dir, t, NULL) != 0;
}

int same_take(struct sosie_group *g, struct sosie_err *err)
{
	struct same_table *t = table_of(g->store, g->tenant.s, false);
	struct store_memo *memo;
	struct sosie_stat st;
	char path[STORE_PATH];
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (rc)
		return rc;
	if (!t)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read what sources say of %s",
		                     g->tenant.s);
	if (!memo->same_known || !sosie_digest_equal(&memo->same_digest, chain_head(g->chain))) {
		memo->same_digest = *chain_head(g->chain);
		memo->same_noted_ms = read_note(g->store, g->dir, &memo->same_digest);
	}
	memo->same_known = !store_path(path, NULL, "%s/chain", g->dir) &&
	                   !sosie_io_stat(g->store->io, path, &st, NULL) && g->chain->newest_file > 0 &&
	                   sosie_wall_ms(g->store->clock) - st.mtime_ms > SETTLED_MS;
	memo->chain_dir_ms = memo->same_known ? st.mtime_ms : 0;
	memo->chain_file = g->chain->newest_file;
	memo->chain_size = g->chain->newest_size;
	return note(g->store, memo, g->dir, t, err);
}

int64_t same_newest(struct sosie_store *store, const char *tenant, const char *group,
                    const struct sosie_digest *head)
{
	struct same_table *t = table_of(store, tenant, false);
	const int64_t now = sosie_wall_ms(store->clock);
	struct same_found found = {0};
	if (t)
		found = find(t, group, head);
	return found.time_ms < now ? found.time_ms : now;
}

int64_t status_same(struct sosie_group *g)
{
	struct same_table *t = table_of(g->store, g->tenant.s, true);
	const struct sosie_digest *head = chain_head(g->chain);
	int64_t now = sosie_wall_ms(g->store->clock), noted = read_note(g->store, g->dir, head);
	struct same_found found = {0};
	if (t)
		found = find(t, g->name.s, head);
	found.time_ms = found.time_ms < now ? found.time_ms : now;
	return noted > found.time_ms ? noted : found.time_ms;
}
